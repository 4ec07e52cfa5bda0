"""The interface of the two modules that find and kill the processes of a script.

The module ``cgroup`` is exact, since the kernel keeps the list of processes. The module ``descent``
is used where no cgroup2 is writable. The keeper chooses one of the two modules at its start.
"""

from typing import Protocol

from scriptservice.keeper.system.linux import ProcessStat
from scriptservice.keeper.upgrade_state import TreeState


class TreeRoot(Protocol):
    """A script's own process, which is the root of the script's process tree.

    Attributes:
        id: the command's UUID.
        pid: id of the script's own process.
        exited: whether the script's own process was reaped. Another process may then have the same
            id.
    """

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def pid(self) -> int: ...  # noqa: D102
    @property
    def exited(self) -> bool: ...  # noqa: D102


class ProcessTree(Protocol):
    """The processes of all scripts of this keeper, one tree for each script.

    Each method raises an `OSError` if the keeper is short of descriptors or memory. The keeper
    then cannot look at all processes, so the caller must not assume that a process has ended.

    Attributes:
        mode: how the processes are found: ``cgroup`` or ``walk``.
    """

    mode: str

    def to_state(self) -> TreeState:
        """Return all that is known about the trees, for the keeper's next program."""

    def open_join_file(self, command_id: str) -> int | None:
        """Return a descriptor to which a starting process writes ``0`` to join the tree.

        The caller closes the descriptor. The result is None if a process joins without a write.
        """

    def is_empty(self, root: TreeRoot) -> bool:
        """Return whether no process of the tree is alive."""

    def signal(self, root: TreeRoot, number: int) -> set[int]:
        """Signal every process of the tree; return the ids of the signalled processes."""

    def kill(self, root: TreeRoot) -> bool:
        """Send SIGKILL to every process of the tree; return whether the tree is empty."""

    def forget(self, root: TreeRoot) -> None:
        """Drop what is known about an empty tree."""

    def refresh(self) -> None:
        """Discard what was read from /proc; called whenever processes may have changed."""

    def unattributed_orphans(self) -> list[ProcessStat]:
        """Return the orphans whose command the keeper does not know."""

    def close(self) -> None:
        """Remove what the tree has created in the system; called at the keeper's end."""
