"""Tells to which command a process belongs.

A process that descends from a living process of a command belongs to the same command;
`add_descendants` finds such processes. Any other process may be an orphan of a script. `Ownership`
finds the command of an orphan by its session, by the processes that were seen before, by its cgroup
or by its environment. ``descent`` and ``recovery`` use this module.
"""

import itertools
import os
from collections.abc import Callable, Iterable

from scriptservice.keeper.spawn.spawner import COMMAND_ID_VARIABLE
from scriptservice.keeper.system.linux import (
    ProcessStat,
    child_pids,
    environment_value,
    ignore_vanished,
    process_environment,
    process_stat,
    read_file,
)
from scriptservice.keeper.tree.controllers import limited_directory
from scriptservice.keeper.tree.process_tree import TreeRoot

_VARIABLE = COMMAND_ID_VARIABLE.encode()


class UndecidedError(Exception):
    """The command of a process cannot be found yet, since the process is in an exec."""


def owns_session(root: TreeRoot) -> bool:
    """Return whether the session and group with a script's pid still belong to the script.

    The kernel does not give the id of a session to a new process while the session has members. So
    if another process has the script's pid now, the script's session has ended. A session with this
    id is then a new session.
    """
    if root.pid is None:
        return False
    leader = process_stat(root.pid)
    return leader is None or leader.start_ticks == root.start_ticks


class Ownership:
    """Finds the commands of orphans, and remembers the processes that were seen in each tree.

    Args:
        roots: returns the scripts' own processes of all open commands.
        cgroup: the directory with a cgroup for each command, None if there are no cgroups.
    """

    def __init__(self, roots: Callable[[], Iterable[TreeRoot]], cgroup: str | None = None) -> None:
        self._roots = roots
        directories = [] if cgroup is None else [cgroup, limited_directory(cgroup)]
        self._cgroups = [f"/{os.path.basename(each)}/" for each in directories]
        self._is_fresh = False
        self._ids: set[str] = set()
        self._by_pid: dict[int, list[TreeRoot]] = {}
        self.seen: dict[str, dict[int, int]] = {}
        """By command id: the start of each process that was seen in the tree, by process id."""
        self.sessions: dict[str, set[int]] = {}
        """By command id: the ids of the sessions that were seen in the tree."""

    def note(self, command_id: str, members: Iterable[ProcessStat]) -> None:
        """Remember the processes of a tree, so that they are known when they become orphans.

        The sessions of the processes are remembered too. A session is left out if its leader is
        alive and not a process of this tree.

        Args:
            command_id: the command's UUID.
            members: the living processes of the tree.
        """
        seen = self.seen.setdefault(command_id, {})
        sessions = self.sessions.setdefault(command_id, set())
        living = {stat.pid: stat for stat in members}
        for stat in living.values():
            seen[stat.pid] = stat.start_ticks
            # The session of a process of another pid namespace is 0.
            if stat.session in sessions or stat.session in (0, os.getsid(0)):
                continue
            leader = process_stat(stat.session)
            if leader is not None and leader.pid not in living and not is_dead(leader):
                continue
            sessions.add(stat.session)
            # A leader that is dead and not reaped is not among the members, so add it here.
            if leader is not None:
                seen.setdefault(leader.pid, leader.start_ticks)

    def forget(self, command_id: str) -> None:
        """Drop what is remembered about a tree."""
        self.seen.pop(command_id, None)
        self.sessions.pop(command_id, None)

    def refresh(self) -> None:
        """Make the next call of `owner` read the list of open commands again."""
        self._is_fresh = False

    def _read_roots(self) -> None:
        self._is_fresh = True
        self._by_pid.clear()
        self._ids.clear()
        for root in self._roots():
            self._ids.add(root.id)
            if root.pid is not None:
                self._by_pid.setdefault(root.pid, []).append(root)

    def owner(self, stat: ProcessStat) -> str | None:
        """Return the command id of a process, None if no open command is known for the process.

        Raises:
            UndecidedError: only the environment could tell the command, and the process has no
                environment yet.
            OSError: the keeper is short of descriptors or memory, see `is_resource_shortage`.
        """
        if not self._is_fresh:
            self._read_roots()
        found = self._by_session(stat) or self._by_cgroup(stat.pid)
        return found or self._by_environment(stat.pid)

    def _by_session(self, stat: ProcessStat) -> str | None:
        for root in self._by_pid.get(stat.session, ()):
            if owns_session(root):
                return root.id
        for command_id, seen in self.seen.items():
            if command_id in self._ids and (
                seen.get(stat.pid) == stat.start_ticks or self._has_session(command_id, stat)
            ):
                return command_id
        return None

    def _has_session(self, command_id: str, stat: ProcessStat) -> bool:
        if stat.session not in self.sessions.get(command_id, ()):
            return False
        # See `owns_session`. `note` has put the session's leader into `seen`, if it existed.
        leader = process_stat(stat.session)
        return leader is None or self.seen[command_id].get(leader.pid) == leader.start_ticks

    def _by_cgroup(self, pid: int) -> str | None:
        if not self._cgroups:
            return None
        text = ""
        with ignore_vanished():
            text = os.fsdecode(read_file(f"/proc/{pid}/cgroup"))
        for line, directory in itertools.product(text.splitlines(), self._cgroups):
            _, found, below = line.partition(directory)
            if found and (command_id := below.partition("/")[0]) in self._ids:
                return command_id
        return None

    def _by_environment(self, pid: int) -> str | None:
        found = process_environment(pid)
        if found is None:
            raise UndecidedError
        value = environment_value(found, _VARIABLE)
        command_id = value.decode(errors="replace") if value else None
        return command_id if command_id in self._ids else None


def add_descendants(members: dict[int, ProcessStat]) -> None:
    """Add the living descendants of some processes.

    A process id may be reused between two reads of /proc. So a process counts as a child only under
    three conditions: its stat file names the parent, it is not older than the parent, and after the
    child was read no other process has the parent's id.

    Args:
        members: the processes by their ids; the descendants are added here.
    """
    frontier = list(members.values())
    while frontier:
        parent = frontier.pop()
        children = [
            stat
            for pid in child_pids(parent.pid)
            if pid not in members
            and (stat := process_stat(pid)) is not None
            and stat.parent == parent.pid
            and stat.start_ticks >= parent.start_ticks
            and not is_dead(stat)
        ]
        if not children:
            continue
        now = process_stat(parent.pid)
        if now is not None and now.start_ticks != parent.start_ticks:
            continue
        for stat in children:
            members[stat.pid] = stat
            frontier.append(stat)


def is_dead(stat: ProcessStat) -> bool:
    """Return whether a process is a zombie without any running thread."""
    if not stat.dead:
        return False
    threads: list[str] = []
    with ignore_vanished():
        threads = os.listdir(f"/proc/{stat.pid}/task")
    return len(threads) <= 1
