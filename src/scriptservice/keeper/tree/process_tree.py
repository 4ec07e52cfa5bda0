"""The interface of the two modules that find and kill the processes of a script.

``cgroup`` is exact, since the kernel keeps the list of processes. ``descent`` is used where no
cgroup2 is writable. ``keeper`` chooses one of them at its start.
"""

from typing import Protocol

from scriptservice.keeper.system.linux import ProcessStat
from scriptservice.keeper.upgrade_state import TreeState


class TreeRoot(Protocol):
    """The script's own process, from which its tree grows.

    Attributes:
        id: the command's UUID.
        pid: id of the script's own process.
        exited: whether that process was reaped. Its id may then be the id of another process.
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
    then cannot look at all processes, and must not take them for ended.

    Attributes:
        mode: how the processes are found: ``cgroup`` or ``walk``.
    """

    mode: str

    def to_state(self) -> TreeState:
        """Return all that is known about the trees, for the keeper's next program."""

    def open_join_file(self, command_id: str) -> int | None:
        """Return a descriptor to which a starting process writes ``0`` to join the tree.

        The caller closes the descriptor. The result is None if a process has nothing to do to join.
        """

    def is_empty(self, root: TreeRoot) -> bool:
        """Return whether no process of the tree is alive."""

    def signal(self, root: TreeRoot, number: int) -> set[int]:
        """Signal every process of the tree; return the ids of the signalled ones."""

    def kill(self, root: TreeRoot) -> bool:
        """Send SIGKILL to every process of the tree; return whether the tree is empty."""

    def forget(self, root: TreeRoot) -> None:
        """Drop what is known about an empty tree."""

    def refresh(self) -> None:
        """Discard what was read from /proc; called whenever processes may have changed."""

    def unattributed_orphans(self) -> list[ProcessStat]:
        """Return the processes that scripts left behind and whose command is unknown."""

    def close(self) -> None:
        """Remove what the tree has created in the system; called at the keeper's end."""
