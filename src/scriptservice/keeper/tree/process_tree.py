"""The interface of both ways to find and kill the processes of a script.

``cgroup`` is exact, since the kernel keeps the list. ``descent`` serves where no cgroup2 is
writable. ``keeper`` chooses one at its start.
"""

from typing import Protocol

from scriptservice.keeper.system.linux import ProcessStat
from scriptservice.keeper.upgrade_state import TreeState


class TreeRoot(Protocol):
    """The script's own process, from which its tree grows.

    Attributes:
        id: the command's UUID.
        pid: of the script's own process.
        exited: whether that process was reaped, so that its id may be another process's.
    """

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def pid(self) -> int: ...  # noqa: D102
    @property
    def exited(self) -> bool: ...  # noqa: D102


class ProcessTree(Protocol):
    """The processes of all scripts of this keeper, one tree for each script.

    Each method raises an `OSError` if the keeper is short of descriptors or memory: a process that
    was not looked at does not count as gone.

    Attributes:
        mode: ``cgroup`` or ``walk``.
    """

    mode: str

    def to_state(self) -> TreeState:
        """Return all that is known, for the keeper's next program."""

    def open_join_file(self, command_id: str) -> int | None:
        """Return a descriptor to which a starting process writes ``0`` to join the tree.

        The caller closes it. None if a process need not do anything to join.
        """

    def is_empty(self, root: TreeRoot) -> bool:
        """Return whether no process of the tree is alive."""

    def signal(self, root: TreeRoot, number: int) -> set[int]:
        """Signal every process of the tree; return their ids."""

    def kill(self, root: TreeRoot) -> bool:
        """Send SIGKILL to every process of the tree; return whether the tree is empty."""

    def forget(self, root: TreeRoot) -> None:
        """Drop what is known about an empty tree."""

    def refresh(self) -> None:
        """Discard what was read from /proc; called when it may be out of date."""

    def unattributed_orphans(self) -> list[ProcessStat]:
        """Return the orphans of scripts whose command is unknown."""

    def close(self) -> None:
        """Remove what this keeper made in the system; called at its end."""
