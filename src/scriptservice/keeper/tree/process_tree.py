"""The interface of the modules that find and kill the processes of a script.

The keeper chooses one of three modules at its start. The module ``cgroup`` is exact, since the
kernel keeps the list of processes. The module ``descent`` is used where no cgroup2 is writable. The
module ``combined`` uses both, where a script may move its processes to another cgroup.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from scriptservice.keeper.system.linux import ProcessStat
from scriptservice.keeper.upgrade_state import TreeState


class TreeRoot(Protocol):
    """A script's own process, which is the root of the script's process tree.

    Attributes:
        id: the command's UUID.
        pid: id of the script's own process, None if the process is not known.
        start_ticks: when that process started, in clock ticks from boot.
        exited: whether the script's own process was reaped. Another process may then have the same
            id.
    """

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def pid(self) -> int | None: ...  # noqa: D102
    @property
    def start_ticks(self) -> int: ...  # noqa: D102
    @property
    def exited(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Unkillable:
    """A living process that the kernel does not permit the keeper to signal.

    Attributes:
        pid: the process id.
        uid: the effective uid of the process.
    """

    pid: int
    uid: int


@dataclass(frozen=True, slots=True)
class KillResult:
    """The result of killing all processes of a tree.

    Attributes:
        empty: whether no process of the tree is alive.
        forbidden: the living processes of the tree that the keeper may not signal. If no others are
            left, further attempts are useless until these processes end by themselves.
    """

    empty: bool
    forbidden: tuple[Unkillable, ...] = ()


class ProcessTree(Protocol):
    """The processes of all scripts of this keeper, one tree for each script.

    Each method raises an `OSError` if the keeper is short of descriptors or memory. The keeper
    then cannot look at all processes, so the caller must not assume that a process has ended. No
    method raises an error because a process may not be signalled.

    Attributes:
        mode: how the processes are found, as ``/readyz`` shows it: ``cgroup`` or ``walk``.
        base: directory of the keeper's cgroup, None if the keeper uses no cgroups.
        may_leave_orphans: whether orphans can exist whose command the keeper does not know.
        limits: names of the limits that the keeper can set for a process tree, see `TREE_LIMITS`.
    """

    mode: str
    may_leave_orphans: bool

    @property
    def limits(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def base(self) -> str | None: ...  # noqa: D102

    def to_state(self) -> TreeState:
        """Return all that is known about the trees, for the keeper's next program."""

    def open_join_file(self, command_id: str, limits: Mapping[str, Any]) -> int | None:
        """Return a descriptor to which a starting process writes ``0`` to join the tree.

        The caller closes the descriptor. The result is None if a process joins without a write.

        Args:
            command_id: the command's UUID.
            limits: the command's limits, see `SpawnSpec`; those of the tree are set here.
        """

    def is_empty(self, root: TreeRoot) -> bool:
        """Return whether no process of the tree is alive."""

    def signal(self, root: TreeRoot, number: int) -> set[int]:
        """Signal every process of the tree; return the ids of the processes that got the signal."""

    def kill(self, root: TreeRoot) -> KillResult:
        """Send SIGKILL to every process of the tree.

        The keeper remembers the result for `unkillable`.
        """

    def unkillable(self) -> list[tuple[str, Unkillable]]:
        """Return the processes that the last `kill` of each tree was not permitted to signal.

        Each item is the id of a command and a process of this command.
        """

    def forget(self, root: TreeRoot) -> None:
        """Drop what is known about a tree; called when its command ends."""

    def memory_kill(self, root: TreeRoot) -> bool | None:
        """Return whether the kernel has killed a process of the tree for lack of memory.

        Returns:
            None if it has killed none, or if that is not known. True if the processes needed more
            than ``memory_bytes``, False if the service or the machine had too little.
        """

    def refresh(self) -> None:
        """Discard what was read from /proc; called whenever processes may have changed."""

    def unattributed_orphans(self) -> list[ProcessStat]:
        """Return the orphans of the scripts' user whose command the keeper does not know."""

    def kill_unattributed_orphans(self) -> KillResult:
        """Send SIGKILL to the unattributed orphans; allowed only while no command is open.

        While a command is open, such an orphan may belong to this command.
        """

    def close(self) -> None:
        """Remove what the tree has created in the system; called at the keeper's end."""
