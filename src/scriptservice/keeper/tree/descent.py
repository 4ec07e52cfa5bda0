"""Finds the processes of a script by lists of children; used where no cgroup2 is writable.

Orphans become children of the keeper, which is their sub-reaper. The keeper finds the command of an
orphan by the orphan's session, and by the variable with the command's id in the orphan's
environment. An orphan with a session of its own and without the variable is unattributed: the
keeper cannot tell which script left it behind. During an exec an orphan has no environment for a
moment. Such an orphan is undecided: it may belong to any script, so no tree counts as empty.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from scriptservice.keeper.system.linux import ProcessStat, child_pids, process_stat, process_user
from scriptservice.keeper.tree.killing import Found, kill_until_quiet, signal_all
from scriptservice.keeper.tree.ownership import (
    Ownership,
    UndecidedError,
    add_descendants,
    is_dead,
)
from scriptservice.keeper.tree.process_tree import KillResult, TreeRoot, Unkillable
from scriptservice.keeper.upgrade_state import TreeState

_KILL_SECONDS = 0.02
# After this time an orphan without an environment counts as unattributed. An exec may take long if
# it waits for a processor, or for the disk with the program.
_EXEC_SECONDS = 10.0
_LIST_ATTEMPTS = 20


class DescentTree:
    """Follows lists of children from the script's process and from orphans; see `ProcessTree`.

    Args:
        own_children: returns the process ids of the keeper's children that are not orphans: its
            server, its helpers and the scripts' own processes.
        roots: returns the roots of the scripts whose commands have not ended.
        script_uid: uid of the user of scripts; orphans of other users are never reported as
            unattributed.
        state: the state of the keeper's previous program; None at a start.
        cgroup: the directory with a cgroup for each command, None if there are no cgroups.
    """

    mode = "walk"
    base = None
    may_leave_orphans = True
    limits = ()

    def __init__(
        self,
        own_children: Callable[[], set[int]],
        roots: Callable[[], Iterable[TreeRoot]],
        script_uid: int,
        state: TreeState | None = None,
        cgroup: str | None = None,
    ) -> None:
        self._script_uid = script_uid
        self._own_children = own_children
        self._keeper = os.getpid()
        self._ownership = Ownership(roots, cgroup)
        self._inherited: set[tuple[int, int]] = set()
        self._owners: dict[tuple[int, int], str] = {}
        self._undecided: dict[tuple[int, int], float] = {}
        self._undecided_since: dict[str, float] = {}
        self._orphans: dict[str | None, list[ProcessStat]] | None = None
        self._forbidden: dict[str, tuple[Unkillable, ...]] = {}
        if state is None:
            # These children are older than the keeper's program. For example, a shell started them
            # and then became the keeper by an exec.
            self._inherited |= {
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
            before=sorted(self._inherited),
            seen={each: sorted(seen.items()) for each, seen in self._ownership.seen.items()},
            sessions={each: sorted(known) for each, known in self._ownership.sessions.items()},
            owners=[(pid, start, owner) for (pid, start), owner in self._owners.items()],
        )

    def _restore(self, state: TreeState) -> None:
        self._inherited = set(state.before)
        self._ownership.seen = {each: dict(seen) for each, seen in state.seen.items()}
        self._ownership.sessions = {each: set(known) for each, known in state.sessions.items()}
        self._owners = {(pid, start): owner for pid, start, owner in state.owners}

    def open_join_file(self, command_id: str, limits: Mapping[str, Any]) -> None:
        """See `ProcessTree.open_join_file`; a process joins by its descent, without a write."""

    def memory_kill(self, root: TreeRoot) -> None:
        """See `ProcessTree.memory_kill`; without a cgroup it is not known."""

    def refresh(self) -> None:
        """See `ProcessTree.refresh`."""
        self._orphans = None

    def _orphans_by_command(self) -> dict[str | None, list[ProcessStat]]:
        """Return the orphans by command id; orphans whose command is unknown are under None.

        The result is kept until `refresh` is called. So /proc is read only once for all commands
        that end in one batch of events.
        """
        if self._orphans is None:
            orphans: dict[str | None, list[ProcessStat]] = {}
            living = {(stat.pid, stat.start_ticks): stat for stat in self._living_orphans()}
            undecided: dict[tuple[int, int], float] = {}
            found: dict[tuple[int, int], str | None] = {}
            self._ownership.refresh()
            for key, stat in living.items():
                try:
                    # If the command of an orphan is known, keep it: the orphan may clear its
                    # environment later. If the command is unknown, look for it again each time: a
                    # process that is found later may tell whose session the orphan is in.
                    found[key] = self._owners.get(key) or self._ownership.owner(stat)
                except UndecidedError:
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
        """Return the keeper's children that are orphans and alive.

        A process in the list may die after the list was read. Its children then become the keeper's
        children, but are not in the list. So the list is read again until it contains no newly dead
        process. A dead process stays in each later list, because the keeper does not reap it
        meanwhile.
        """
        own = self._own_children()
        dead: set[int] = set()
        for _ in range(_LIST_ATTEMPTS):
            living: list[ProcessStat] = []
            died: list[ProcessStat] = []
            known = len(dead)
            for pid in set(child_pids(self._keeper)) - own - dead:
                stat = process_stat(pid)
                if stat is None or is_dead(stat):
                    dead.add(pid)
                    died += [] if stat is None else [stat]
                elif (pid, stat.start_ticks) not in self._inherited:
                    living.append(stat)
            if len(dead) == known:
                return living
        # The orphans die as fast as the lists are read. The dead orphans of the last list are
        # returned too, since they may have left children that are not in this list.
        return living + died

    def _may_have_undecided(self, root: TreeRoot) -> bool:
        """Return whether an undecided orphan, one without an environment, may belong to a tree.

        The answer is False once there has been an undecided orphan for `_EXEC_SECONDS` without a
        break, even if the orphan changed. Otherwise a script could create such orphans one after
        the other, and no command would ever end.
        """
        if not self._undecided:
            self._undecided_since.pop(root.id, None)
            return False
        return not _is_long_ago(self._undecided_since.setdefault(root.id, time.monotonic()))

    def members(self, root: TreeRoot) -> list[ProcessStat]:
        """Return the live processes of a tree; the script's own process is one of them.

        The result also contains orphans that died after the list of orphans was read. They show
        that the tree may still have processes: their children became the keeper's children too late
        to be in that list.
        """
        found = {stat.pid: stat for stat in self._orphans_by_command().get(root.id, ())}
        if root.pid is not None and not root.exited and root.pid not in found:
            stat = process_stat(root.pid)
            if stat is not None and stat.start_ticks == root.start_ticks and not is_dead(stat):
                found[root.pid] = stat
        add_descendants(found)
        return list(found.values())

    def is_empty(self, root: TreeRoot) -> bool:
        """See `ProcessTree.is_empty`."""
        if self.members(root):
            self._undecided_since.pop(root.id, None)
            return False
        return not self._may_have_undecided(root)

    def look(self, root: TreeRoot) -> Found:
        """Read /proc again, and return the processes of a tree.

        The keeper remembers these processes. If a signal kills one of them, its children become
        orphans, and the keeper still knows to which tree these orphans belong.
        """
        self.refresh()
        members = self.members(root)
        self._ownership.note(root.id, members)
        return Found(members, complete=not self._may_have_undecided(root))

    def signal(self, root: TreeRoot, number: int) -> set[int]:
        """See `ProcessTree.signal`."""
        members = self.members(root)
        self._ownership.note(root.id, members)
        return signal_all(members, number).sent

    def kill(self, root: TreeRoot) -> KillResult:
        """See `ProcessTree.kill`; this takes not much longer than 20 ms."""
        return self.remember(root, kill_until_quiet(lambda: self.look(root), seconds=_KILL_SECONDS))

    def remember(self, root: TreeRoot, result: KillResult) -> KillResult:
        """Remember the result of a kill for `unkillable`, and return it."""
        if result.forbidden:
            self._forbidden[root.id] = result.forbidden
        else:
            self._forbidden.pop(root.id, None)
        return result

    def unkillable(self) -> list[tuple[str, Unkillable]]:
        """See `ProcessTree.unkillable`."""
        return [(command, each) for command, found in self._forbidden.items() for each in found]

    def forget(self, root: TreeRoot) -> None:
        """See `ProcessTree.forget`."""
        self._ownership.forget(root.id)
        self._undecided_since.pop(root.id, None)
        self._forbidden.pop(root.id, None)

    def unattributed_orphans(self) -> list[ProcessStat]:
        """See `ProcessTree.unattributed_orphans`.

        The list is empty while the keeper is short of descriptors or memory.
        """
        unknown: list[ProcessStat] = []
        with suppress(OSError):
            unknown = self._unattributed()
        return unknown

    def _unattributed(self) -> list[ProcessStat]:
        unknown = self._orphans_by_command().get(None, [])
        return [stat for stat in unknown if process_user(stat.pid) == self._script_uid]

    def kill_unattributed_orphans(self) -> KillResult:
        """See `ProcessTree.kill_unattributed_orphans`."""
        return kill_until_quiet(self._look_at_unattributed, seconds=_KILL_SECONDS)

    def _look_at_unattributed(self) -> Found:
        self.refresh()
        found = {stat.pid: stat for stat in self._unattributed()}
        add_descendants(found)
        return Found(found.values(), complete=not self._undecided)

    def close(self) -> None:
        """See `ProcessTree.close`."""


def _is_long_ago(at: float) -> bool:
    return time.monotonic() - at >= _EXEC_SECONDS
