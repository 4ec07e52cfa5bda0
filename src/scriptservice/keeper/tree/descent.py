"""Who belongs to a script where no cgroup2 is writable: found by following lists of children.

Orphans come to the keeper, which is their sub-reaper, and are told apart by session and by the
marker in their environment. An orphan with a session of its own and without the marker is a stray:
nobody knows whose it was. One in the midst of an exec has no environment for a moment; until that
is over it may be anybody's, and nobody's tree is empty.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from scriptservice.keeper.spawn.spawner import COMMAND_ID_VARIABLE
from scriptservice.keeper.system.linux import (
    ProcessStat,
    child_pids,
    environment_value,
    ignore_vanished,
    process_environment,
    process_stat,
    signal_process,
)
from scriptservice.keeper.tree.process_tree import TreeRoot
from scriptservice.keeper.upgrade_state import TreeState

_QUIET_ROUNDS = 3
_ROUNDS_SECONDS = 0.02
_EXEC_SECONDS = 10.0  # it may wait for a processor, or for the disk that its program is on
_LIST_ROUNDS = 20


class _UndecidedError(Exception):
    """Whose an orphan is cannot be said yet."""


class DescentTree:
    """Follows the lists of children, from the script and from what came to the keeper.

    Args:
        own_children: returns the ids of the keeper's children that are no script's orphans: its
            server, its helpers and the scripts' own processes.
        roots: returns the scripts that are open.
        script_uid: as whom scripts run; an orphan of another user is nobody's of ours.
        state: what the keeper's program before this one knew; None at a start.
    """

    mode = "walk"

    def __init__(
        self,
        own_children: Callable[[], set[int]],
        roots: Callable[[], Iterable[TreeRoot]],
        script_uid: int,
        state: TreeState | None = None,
    ) -> None:
        self._script_uid = script_uid
        self._own_children = own_children
        self._roots = roots
        self._keeper = os.getpid()
        self._before: set[tuple[int, int]] = set()
        self._seen: dict[str, dict[int, int]] = {}
        self._sessions: dict[str, set[int]] = {}
        self._owners: dict[tuple[int, int], str] = {}
        self._undecided: dict[tuple[int, int], float] = {}
        self._held_up: dict[str, float] = {}
        self._orphans: dict[str | None, list[ProcessStat]] | None = None
        if state is None:
            # Children from before this program was the keeper, of the shell that became it, say.
            self._before |= {
                (pid, stat.start_ticks)
                for pid in child_pids(self._keeper)
                if (stat := process_stat(pid)) is not None
            }
        else:
            self._restore(state)

    def to_state(self) -> TreeState:
        """See `ProcessTree.to_state`."""
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

    def open_join_file(self, command: str) -> None:
        """See `ProcessTree.open_join_file`; children are found by descent."""

    def refresh(self) -> None:
        """See `ProcessTree.refresh`."""
        self._orphans = None

    def _adopted(self) -> dict[str | None, list[ProcessStat]]:
        """Return the orphans by command; read once for all commands that end in a batch."""
        if self._orphans is None:
            orphans: dict[str | None, list[ProcessStat]] = {}
            living = {(stat.pid, stat.start_ticks): stat for stat in self._living_orphans()}
            undecided: dict[tuple[int, int], float] = {}
            found: dict[tuple[int, int], str | None] = {}
            for key, stat in living.items():
                try:
                    # Whose it is, is remembered: it may wipe its environment. That it is nobody's
                    # is not: its session may be told by what is seen later.
                    found[key] = self._owners.get(key) or self._owner(stat)
                except _UndecidedError:
                    undecided[key] = self._undecided.get(key, time.monotonic())
                    if _is_long_ago(undecided[key]):
                        found[key] = None
            self._undecided = undecided
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
        """Return whose orphan it is: by what was seen, by session, by its environment.

        Raises:
            _UndecidedError: none of these says it, and it has no environment yet.
        """
        roots = list(self._roots())
        for root in roots:
            if (
                root.pid == stat.session
                or stat.session in self._sessions.get(root.id, ())
                or self._seen.get(root.id, {}).get(stat.pid) == stat.start_ticks
            ):
                return root.id
        found = process_environment(stat.pid)
        if found is None:
            raise _UndecidedError
        marker = environment_value(found, COMMAND_ID_VARIABLE.encode())
        marked = marker.decode(errors="replace") if marker else None
        return next((root.id for root in roots if root.id == marked), None)

    def _is_held_up(self, root: TreeRoot) -> bool:
        """Whether an orphan may belong to a tree without a member that is known.

        Not for ever, however many come one after the other: a script might make them so that no
        other comes to its end.
        """
        if not self._undecided:
            self._held_up.pop(root.id, None)
            return False
        return not _is_long_ago(self._held_up.setdefault(root.id, time.monotonic()))

    def _members(self, root: TreeRoot) -> list[ProcessStat]:
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

    def is_empty(self, root: TreeRoot) -> bool:
        """See `ProcessTree.is_empty`."""
        if self._members(root):
            self._held_up.pop(root.id, None)
            return False
        return not self._is_held_up(root)

    def signal(self, root: TreeRoot, number: int) -> set[int]:
        """See `ProcessTree.signal`."""
        members = self._members(root)
        # Remembered first: whoever loses its parent by this is still known afterwards.
        seen = self._seen.setdefault(root.id, {})
        sessions = self._sessions.setdefault(root.id, set())
        for stat in members:
            seen[stat.pid] = stat.start_ticks
            if stat.session != os.getsid(0):
                sessions.add(stat.session)
        return {stat.pid for stat in members if signal_process(stat.pid, stat.start_ticks, number)}

    def kill(self, root: TreeRoot) -> bool:
        """See `ProcessTree.kill`: rounds until three in a row find nobody, or for 20 ms."""
        quiet = 0
        deadline = time.monotonic() + _ROUNDS_SECONDS
        while quiet < _QUIET_ROUNDS and time.monotonic() < deadline:
            self._orphans = None
            somebody = self.signal(root, signal.SIGKILL) or self._is_held_up(root)
            quiet = 0 if somebody else quiet + 1
        return quiet >= _QUIET_ROUNDS

    def forget(self, root: TreeRoot) -> None:
        """See `ProcessTree.forget`."""
        self._seen.pop(root.id, None)
        self._held_up.pop(root.id, None)
        self._sessions.pop(root.id, None)

    def unattributed_orphans(self) -> list[ProcessStat]:
        """See `ProcessTree.unattributed_orphans`; none where it cannot be said now."""
        unknown: list[ProcessStat] = []
        with suppress(OSError):
            unknown = self._adopted().get(None, [])
        return [stat for stat in unknown if _user_of(stat.pid) == self._script_uid]

    def close(self) -> None:
        """See `ProcessTree.close`."""


def _is_long_ago(moment: float) -> bool:
    return time.monotonic() - moment >= _EXEC_SECONDS


def _user_of(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def _is_dead(stat: ProcessStat) -> bool:
    """Whether a process is a zombie with no thread left that runs."""
    if not stat.dead:
        return False
    threads: list[str] = []
    with ignore_vanished():
        threads = os.listdir(f"/proc/{stat.pid}/task")
    return len(threads) <= 1
