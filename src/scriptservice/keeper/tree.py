"""Who belongs to a script, and how all of them are ended.

Two ways with one interface (`Tree`). `CgroupTree` is exact: the kernel keeps the list, from before
the script's first instruction to the end. `DescentTree` serves where no cgroup2 is writable: it
follows the parents' lists of children; orphans come to the keeper, which is their sub-reaper, and
are told apart by session and by the marker in their environment. An orphan with a session of its
own and without the marker is a stray: nobody knows whose it was.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

from scriptservice.keeper.linux import (
    ProcessStat,
    child_pids,
    environment,
    environment_value,
    process_stat,
    read_file,
    signal_process,
    unless_it_is_gone,
)
from scriptservice.keeper.spawn import MARKER
from scriptservice.keeper.table import TreeState

_QUIET_ROUNDS = 3
_ROUNDS_SECONDS = 0.02
_EXEC_LOOKS = 50  # it may have to wait for a processor, in the midst of it
_EXEC_LOOK_SECONDS = 0.001
_LIST_ROUNDS = 20


class Root(Protocol):
    """The script's own process, as a tree sees it.

    Attributes:
        id: the command's UUID.
        pid: of the script's own process.
        exited: whether that process has been reaped, so that its id may be another's.
    """

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def pid(self) -> int: ...  # noqa: D102
    @property
    def exited(self) -> bool: ...  # noqa: D102


class Tree(Protocol):
    """The processes of every script of this keeper.

    Where there is no descriptor to look with, each raises an `OSError`: nobody is taken for gone
    who was not looked at.
    """

    mode: str

    def handed(self) -> TreeState:
        """Return all that is known, for the keeper's next program."""

    def enter(self, command: str) -> int | None:
        """Return an open descriptor through which a newborn process joins, None for none."""

    def empty(self, root: Root) -> bool:
        """Whether no process of the tree is alive."""

    def signal(self, root: Root, number: int) -> set[int]:
        """Signal every process of the tree; return their ids."""

    def kill(self, root: Root) -> bool:
        """Send SIGKILL to whoever is there; return whether nobody is left."""

    def forget(self, root: Root) -> None:
        """Drop what is kept about a tree that is empty."""

    def next_turn(self) -> None:
        """Look afresh from now on."""

    def strays(self) -> list[ProcessStat]:
        """Return orphans that belong to some script, nobody knows which."""

    def close(self) -> None:
        """Leave nothing behind at the keeper's end."""


def own_cgroup() -> str | None:
    """Return the directory of this process's cgroup2, None where none is mounted."""
    path = None
    for line in read_file("/proc/self/cgroup").decode().splitlines():
        number, _, name = line.split(":", 2)
        if number == "0":
            path = name
    if path is None:
        return None
    for line in read_file("/proc/self/mountinfo").decode().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] != "cgroup2":
            continue
        root, mount = before.split()[3:5]
        inside = os.path.relpath(path, root)
        if not inside.startswith(".."):
            return os.path.normpath(os.path.join(mount, inside))
    return None


class CgroupTree:
    """A cgroup for each script, below one of the keeper's own.

    Args:
        base: directory of the keeper's own cgroup, made here.
    """

    mode = "cgroup"

    def __init__(self, base: str) -> None:
        self._base = base
        with suppress(FileExistsError):  # this keeper's own, from before an upgrade
            os.mkdir(base)

    def handed(self) -> TreeState:
        """See `Tree.handed`."""
        return TreeState(mode=self.mode, base=self._base)

    @classmethod
    def probe(cls, name: str) -> "CgroupTree | None":
        """Return a tree if processes can really be put into cgroups here, else None.

        Args:
            name: what the keeper's own cgroup is to be called.
        """
        tree: CgroupTree | None = None
        with suppress(OSError, subprocess.SubprocessError):
            own = own_cgroup()
            if own is None:
                return None
            tree = cls(os.path.join(own, name))
            procs = tree.enter("probe")
            try:
                subprocess.run(
                    ["/bin/true"],
                    check=True,
                    preexec_fn=lambda: os.write(procs, b"0") and None,
                )
            finally:
                os.close(procs)
                os.rmdir(tree.path("probe"))
            return tree
        if tree is not None:
            tree.close()
        return None

    @property
    def base(self) -> str:
        """The directory of the keeper's own cgroup."""
        return self._base

    def path(self, command: str) -> str:
        """Return the directory of a command's cgroup."""
        return f"{self._base}/{command}"

    def enter(self, command: str) -> int:
        """See `Tree.enter`."""
        path = self.path(command)
        with suppress(FileExistsError):
            os.mkdir(path)
        return os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def empty(self, root: Root) -> bool:
        """See `Tree.empty`."""
        return cgroup_empty(self.path(root.id))

    def signal(self, root: Root, number: int) -> set[int]:
        """See `Tree.signal`."""
        return cgroup_signal(self.path(root.id), number)

    def kill(self, root: Root) -> bool:
        """See `Tree.kill`."""
        return cgroup_kill(self.path(root.id))

    def forget(self, root: Root) -> None:
        """See `Tree.forget`."""
        remove_cgroup(self.path(root.id))

    def next_turn(self) -> None:
        """See `Tree.next_turn`; the kernel's list is always fresh."""

    def strays(self) -> list[ProcessStat]:
        """See `Tree.strays`; there are none."""
        return []

    def close(self) -> None:
        """See `Tree.close`."""
        remove_cgroup(self._base)


def cgroup_empty(path: str) -> bool:
    """Return whether no live process is in a cgroup or below it; also when it is gone."""
    try:
        return b"populated 0" in read_file(f"{path}/cgroup.events")
    except FileNotFoundError:
        return True


def cgroup_pids(path: str) -> list[int]:
    """Return the processes in a cgroup and below it; none where it is gone."""
    found: list[int] = []
    with unless_it_is_gone():
        found += map(int, read_file(f"{path}/cgroup.procs").split())
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                found += cgroup_pids(entry.path)
    return found


def cgroup_signal(path: str, number: int) -> set[int]:
    """Signal every process in a cgroup or below it; return their ids."""
    signalled: set[int] = set()
    name = os.path.basename(path).encode()
    for pid in cgroup_pids(path):
        with unless_it_is_gone():
            handle = os.pidfd_open(pid)
            try:
                # The id may have been reused since it was listed; the descriptor pins it.
                if name in read_file(f"/proc/{pid}/cgroup"):
                    signal.pidfd_send_signal(handle, number)
                    signalled.add(pid)
            finally:
                os.close(handle)
    return signalled


def cgroup_kill(path: str) -> bool:
    """Kill every process in a cgroup and below it; return whether nobody is left."""
    try:
        descriptor = os.open(f"{path}/cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # before Linux 5.14, or the cgroup is gone
        cgroup_signal(path, signal.SIGKILL)
    else:
        try:
            os.write(descriptor, b"1")
        except OSError:  # it is gone, or a script of root's made it a threaded one
            cgroup_signal(path, signal.SIGKILL)
        finally:
            os.close(descriptor)
    return cgroup_empty(path)


def remove_cgroup(path: str) -> None:
    """Remove an empty cgroup and those below it; without effect where a process is left."""
    with suppress(OSError):  # as a rule there is none below, and looking costs more than removing
        os.rmdir(path)
        return
    with suppress(OSError):
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                remove_cgroup(entry.path)
        os.rmdir(path)


class DescentTree:
    """Follows the lists of children, from the script and from what came to the keeper.

    Args:
        own_children: returns the ids of the keeper's children that are no script's orphans: its
            server, its helpers and the scripts' own processes.
        roots: returns the scripts that are open.
        script_uid: as whom scripts run; an orphan of another user is nobody's of ours.
        handed: what the keeper's program before this one knew; None at a start.
    """

    mode = "walk"

    def __init__(
        self,
        own_children: Callable[[], set[int]],
        roots: Callable[[], Iterable[Root]],
        script_uid: int,
        handed: TreeState | None = None,
    ) -> None:
        self._script_uid = script_uid
        self._own_children = own_children
        self._roots = roots
        self._keeper = os.getpid()
        self._before: set[tuple[int, int]] = set()
        self._seen: dict[str, dict[int, int]] = {}
        self._sessions: dict[str, set[int]] = {}
        self._owners: dict[tuple[int, int], str] = {}
        self._bare: set[tuple[int, int]] = set()
        self._orphans: dict[str | None, list[ProcessStat]] | None = None
        if handed is None:
            # Children from before this program was the keeper, of the shell that became it, say.
            self._before |= {
                (pid, stat.start_ticks)
                for pid in child_pids(self._keeper)
                if (stat := process_stat(pid)) is not None
            }
        else:
            self._restore(handed)

    def handed(self) -> TreeState:
        """See `Tree.handed`."""
        return TreeState(
            mode=self.mode,
            before=sorted(self._before),
            seen={command: sorted(seen.items()) for command, seen in self._seen.items()},
            sessions={command: sorted(known) for command, known in self._sessions.items()},
            owners=[(pid, start, owner) for (pid, start), owner in self._owners.items()],
        )

    def _restore(self, state: TreeState) -> None:
        self._before = set(state.before)
        self._seen = {command: dict(seen) for command, seen in state.seen.items()}
        self._sessions = {command: set(known) for command, known in state.sessions.items()}
        self._owners = {(pid, start): owner for pid, start, owner in state.owners}

    def enter(self, command: str) -> None:
        """See `Tree.enter`; children are found by descent."""

    def next_turn(self) -> None:
        """See `Tree.next_turn`."""
        self._orphans = None

    def _adopted(self) -> dict[str | None, list[ProcessStat]]:
        """Return the orphans by command; read once for all commands that end in a batch."""
        if self._orphans is None:
            orphans: dict[str | None, list[ProcessStat]] = {}
            living = {(stat.pid, stat.start_ticks): stat for stat in self._living_orphans()}
            self._bare &= living.keys()
            # Whose it is, is remembered: it may wipe its environment. That nobody's is not: it
            # may be asked for at the wrong moment.
            found = {key: self._owners.get(key) or self._owner(living[key]) for key in living}
            for key, owner in found.items():
                orphans.setdefault(owner, []).append(living[key])
            self._owners = {key: owner for key, owner in found.items() if owner is not None}
            self._orphans = orphans
        return self._orphans

    def _living_orphans(self) -> list[ProcessStat]:
        """Return what came to the keeper and lives.

        Who is listed and dead when it is looked at may have left children that came to us after
        the list was made. The dead stay listed until they are reaped, which is not done meanwhile,
        so the list is complete once it names no dead that were not known to be so before.
        """
        own = self._own_children()
        dead: set[int] = set()
        for _ in range(_LIST_ROUNDS):
            living: list[ProcessStat] = []
            died: list[ProcessStat] = []
            known = len(dead)
            for pid in set(child_pids(self._keeper)) - own - dead:
                stat = process_stat(pid)
                if stat is None or _is_dead(stat):
                    dead.add(pid)
                    died += [] if stat is None else [stat]
                elif (pid, stat.start_ticks) not in self._before:
                    living.append(stat)
            if len(dead) == known:
                return living
        # They die as fast as they are looked at: whoever they left is still to be found.
        return living + died

    def _owner(self, stat: ProcessStat) -> str | None:
        """Return whose orphan it is: by what was seen, by session, by its environment."""
        roots = list(self._roots())
        for root in roots:
            if (
                root.pid == stat.session
                or stat.session in self._sessions.get(root.id, ())
                or self._seen.get(root.id, {}).get(stat.pid) == stat.start_ticks
            ):
                return root.id
        marker = self._marker(stat)
        marked = marker.decode(errors="replace") if marker else None
        return next((root.id for root in roots if root.id == marked), None)

    def _marker(self, stat: ProcessStat) -> bytes | None:
        """Return the marker in a process's environment, once it has an environment.

        In the midst of an exec it has none, and would be taken for nobody's; so a process without
        one is looked at for some milliseconds, but only the first time it is seen.
        """
        key = (stat.pid, stat.start_ticks)
        name = MARKER.encode()
        if key in self._bare:
            return environment_value(environment(stat.pid), name)
        for _ in range(_EXEC_LOOKS):
            # Looked for in what was read: the next exec may begin before it is read once more.
            if (found := environment(stat.pid)) or _is_gone(stat.pid):
                return environment_value(found, name)
            time.sleep(_EXEC_LOOK_SECONDS)
        self._bare.add(key)
        return None

    def _members(self, root: Root) -> list[ProcessStat]:
        """Return the live processes of a tree, the script's own among them while it lives.

        An orphan that has died since it was listed is among them: who was its child came to the
        keeper after the list was made.
        """
        found = {stat.pid: stat for stat in self._adopted().get(root.id, ())}
        frontier = [child for pid in found for child in child_pids(pid)]
        if not root.exited:
            frontier.append(root.pid)
        while frontier:
            pid = frontier.pop()
            stat = process_stat(pid)
            if stat is None or pid in found or _is_dead(stat):
                continue
            found[pid] = stat
            frontier += child_pids(pid)
        return list(found.values())

    def empty(self, root: Root) -> bool:
        """See `Tree.empty`."""
        return not self._members(root)

    def signal(self, root: Root, number: int) -> set[int]:
        """See `Tree.signal`."""
        members = self._members(root)
        # Remembered first: whoever loses its parent by this is still known afterwards.
        seen = self._seen.setdefault(root.id, {})
        sessions = self._sessions.setdefault(root.id, set())
        for stat in members:
            seen[stat.pid] = stat.start_ticks
            if stat.session != os.getsid(0):
                sessions.add(stat.session)
        return {stat.pid for stat in members if signal_process(stat.pid, stat.start_ticks, number)}

    def kill(self, root: Root) -> bool:
        """See `Tree.kill`: rounds until three in a row find nobody, or for 20 ms."""
        quiet = 0
        deadline = time.monotonic() + _ROUNDS_SECONDS
        while quiet < _QUIET_ROUNDS and time.monotonic() < deadline:
            self._orphans = None
            quiet = 0 if self.signal(root, signal.SIGKILL) else quiet + 1
        return quiet >= _QUIET_ROUNDS

    def forget(self, root: Root) -> None:
        """See `Tree.forget`."""
        self._seen.pop(root.id, None)
        self._sessions.pop(root.id, None)

    def strays(self) -> list[ProcessStat]:
        """See `Tree.strays`; none where it cannot be said now."""
        unknown: list[ProcessStat] = []
        with suppress(OSError):
            unknown = self._adopted().get(None, [])
        return [stat for stat in unknown if _user_of(stat.pid) == self._script_uid]

    def close(self) -> None:
        """See `Tree.close`."""


def _user_of(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def _is_gone(pid: int) -> bool:
    stat = process_stat(pid)
    return stat is None or _is_dead(stat)


def _is_dead(stat: ProcessStat) -> bool:
    """Whether a process is a zombie with no thread left that runs."""
    if not stat.dead:
        return False
    threads: list[str] = []
    with unless_it_is_gone():
        threads = os.listdir(f"/proc/{stat.pid}/task")
    return len(threads) <= 1
