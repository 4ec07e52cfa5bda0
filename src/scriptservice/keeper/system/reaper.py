"""Reaps the orphans that the keeper inherits as sub-reaper, and removes private directories.

Scripts and the server are reaped by pid when their pidfd is ready. The keeper has no pidfd of an
orphan. So this module waits for any child after a ``SIGCHLD``, but at most once every
`REAP_SECONDS`, since the cost of such a wait grows with the number of children.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from resource import struct_rusage
from typing import Any

from scriptservice.keeper.system.event_loop import EventLoop
from scriptservice.keeper.upgrade_state import RemovalState

REAP_SECONDS = 0.05

# Build caches often contain directories without write permission. Root can empty these directories
# directly. Any other user must change the modes of the directories first. Root must not change
# modes: a script could replace a file by a link after chmod has looked at the file and before chmod
# changes the mode. To empty a directory with the sticky bit, a process must be the directory's
# owner or have CAP_FOWNER. Root may lack CAP_FOWNER in a container. So if root cannot remove
# everything, a process of the owner removes the rest.
_REMOVE = 'exec rm -rf --one-file-system -- "$1"'
_REMOVE_OWN = f'chmod -R u+rwx -- "$1"; {_REMOVE}'
# The program gets this environment instead of the keeper's own. The program may run as the
# directory's owner, and then other processes of this owner can read the program's environment.
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

ReapedCallback = Callable[[int, int, struct_rusage], bool]


class Reaper:
    """Reaps every child of the keeper that has exited.

    Args:
        loop: runs the timer.
        on_reaped: called with process id, wait status and resource usage of a reaped child;
            returns whether the child belongs to another part of the keeper.
    """

    def __init__(self, loop: EventLoop, on_reaped: ReapedCallback) -> None:
        self._loop = loop
        self._on_reaped = on_reaped
        self._scheduled = False
        self._removals: dict[int, _Removal] = {}

    @property
    def pids(self) -> set[int]:
        """Process ids of the programs that remove directories."""
        return set(self._removals)

    def child_exited(self) -> None:
        """Reap the child soon, together with the children that exit in the meantime."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.after(REAP_SECONDS, self._reap)

    def _reap(self) -> None:
        self._scheduled = False
        for pid, status, usage in _exited_children():
            if not self._on_reaped(pid, status, usage) and pid in self._removals:
                self._removal_exited(self._removals.pop(pid))

    def _removal_exited(self, removal: "_Removal") -> None:
        self._remove(removal.path, removal.owner, removal.attempts, removal.on_removed)

    def remove_directory(self, path: str, on_removed: Callable[[], None]) -> None:
        """Begin to remove a private directory with its content, and call back at the end.

        The callback is called even if a part of the directory cannot be removed. The next start of
        the keeper then tries again.
        """
        try:
            os.rmdir(path)
        except OSError:
            with suppress(OSError):
                owner = os.lstat(path)
                # The first attempt is made as the keeper's user. The second is made as the owner,
                # for files that only the owner may remove. The third is made as the keeper's user
                # again, for files that only the keeper's user may remove.
                attempts = [False, True, False] if os.geteuid() != owner.st_uid else [False]
                self._remove(path, (owner.st_uid, owner.st_gid), attempts, on_removed)
                return
        on_removed()

    def _remove(
        self,
        path: str,
        owner: tuple[int, int],
        attempts: list[bool],
        on_removed: Callable[[], None],
    ) -> None:
        """Make the next attempt to remove a directory.

        If the directory is gone or no attempt is left, call ``on_removed``. Each item of
        ``attempts`` is True for an attempt as the directory's owner, False for an attempt as the
        keeper's user.
        """
        if not attempts or not os.path.lexists(path):
            on_removed()
            return
        as_owner, *later = attempts
        user: dict[str, Any] = {}
        if as_owner:
            user = {"user": owner[0], "group": owner[1], "extra_groups": []}
        command = _REMOVE if os.geteuid() == 0 and not as_owner else _REMOVE_OWN
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", command, "sh", path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_ENVIRONMENT,
                **user,
            )
        except (OSError, subprocess.SubprocessError):
            on_removed()  # The keeper tries again at its next start.
            return
        process.returncode = 0
        self._removals[process.pid] = _Removal(path, owner, later, on_removed)

    def to_state(self) -> list[RemovalState]:
        """Return the removals that are under way, for the keeper's next program."""
        return [
            RemovalState(pid, each.path, each.owner[0], each.owner[1], each.attempts)
            for pid, each in self._removals.items()
        ]

    def restore(
        self, removals: list[RemovalState], on_removed: dict[str, Callable[[], None]]
    ) -> None:
        """Take over the removals of the keeper's previous program.

        Args:
            removals: the removals that the previous program handed over.
            on_removed: the callback for each directory, by the id of its command. This id is also
                the name of the directory.
        """
        for each in removals:
            callback = on_removed.get(os.path.basename(each.path), _do_nothing)
            owner = (each.uid, each.gid)
            self._removals[each.pid] = _Removal(each.path, owner, each.turns, callback)
        # A child may have exited during the exec, and the SIGCHLD for it may be lost.
        self.child_exited()


@dataclass(frozen=True, slots=True)
class _Removal:
    """A program that is removing a directory now.

    Attributes:
        path: the path of the directory.
        owner: the user id and the group id of the directory.
        attempts: the attempts that may follow this one; see `Reaper._remove`.
        on_removed: called when the directory is gone or no attempt is left.
    """

    path: str
    owner: tuple[int, int]
    attempts: list[bool]
    on_removed: Callable[[], None]


def _do_nothing() -> None:
    """Do nothing: the directory's command has ended already, so nothing waits for the removal."""


def _exited_children() -> Iterator[tuple[int, int, struct_rusage]]:
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status, usage
