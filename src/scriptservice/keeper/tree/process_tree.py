"""Who belongs to a script, and how all of them are ended: what the keeper asks of either way.

`keeper.cgroup` is exact: the kernel keeps the list. `keeper.descent` serves where no cgroup2 is
writable.
"""

from typing import Protocol

from scriptservice.keeper.system.linux import ProcessStat
from scriptservice.keeper.upgrade_state import TreeState


class TreeRoot(Protocol):
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


class ProcessTree(Protocol):
    """The processes of every script of this keeper.

    Where there is no descriptor to look with, each raises an `OSError`: nobody is taken for gone
    who was not looked at.
    """

    mode: str

    def to_state(self) -> TreeState:
        """Return all that is known, for the keeper's next program."""

    def open_join_file(self, command: str) -> int | None:
        """Return an open descriptor through which a newborn process joins, None for none."""

    def is_empty(self, root: TreeRoot) -> bool:
        """Whether no process of the tree is alive."""

    def signal(self, root: TreeRoot, number: int) -> set[int]:
        """Signal every process of the tree; return their ids."""

    def kill(self, root: TreeRoot) -> bool:
        """Send SIGKILL to whoever is there; return whether nobody is left."""

    def forget(self, root: TreeRoot) -> None:
        """Drop what is kept about a tree that is empty."""

    def refresh(self) -> None:
        """Look afresh from now on."""

    def unattributed_orphans(self) -> list[ProcessStat]:
        """Return orphans that belong to some script, nobody knows which."""

    def close(self) -> None:
        """Leave nothing behind at the keeper's end."""
