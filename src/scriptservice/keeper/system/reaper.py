"""Reaps the orphans that the keeper inherits as sub-reaper, and removes private directories.

Scripts and the server are reaped by pid when their pidfd is ready. The keeper has no pidfd of an
orphan. So after a ``SIGCHLD`` this module reaps any child that has exited. It does so at most once
every `REAP_SECONDS`, since the cost grows with the number of children.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from resource import struct_rusage

from scriptservice.keeper.system.event_loop import EventLoop, Pause, Timer
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.upgrade_state import RemovalState

REAP_SECONDS = 0.05
REMOVAL_SECONDS = 10.0
"""How long the removal of a private directory may take while the directory's command waits.

There is a limit because a process of the directory's owner may stop the removing program.
"""
OLD_REMOVAL_SECONDS = 600.0
"""How long the removal may take at the keeper's start, when no command waits for it."""

# Build caches often contain directories without write permission. Root can empty these directories
# directly. Any other user must change the modes of the directories first. Root must not change
# modes: a script could replace a file by a link after chmod has looked at the file and before chmod
# changes the mode. To empty a directory with the sticky bit, a process must be the directory's
# owner or have CAP_FOWNER. Root may lack CAP_FOWNER in a container. So if root cannot remove
# everything, a process of the owner removes the rest.
_REMOVE = 'exec rm -rf --one-file-system -- "$1"'
_REMOVE_OWN = f'chmod -R u+rwx -- "$1"; {_REMOVE}'
# This program changes its own user after the exec. If the forked process changed its user before
# the exec, another process of that user could stop it between these two steps. The keeper, which
# waits for the exec, would then hang.
_AS_OWNER = """import os, sys
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[1]))
os.execv(sys.argv[3], sys.argv[3:])
"""
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
        self._loop = loop.supervised(self)
        self._on_reaped = on_reaped
        self._reap_timer: Timer | None = None
        self._pause = Pause()
        self._removals: dict[int, _Removal] = {}

    def callback_failed(self, error: Exception) -> None:  # noqa: ARG002 - it is logged
        """Look for more children that have exited, since the failure may have hidden them."""
        if self._reap_timer is None:
            self._reap_timer = self._loop.after(self._pause.next_seconds(), self._reap)

    @property
    def pids(self) -> set[int]:
        """Process ids of the programs that remove directories."""
        return set(self._removals)

    def child_exited(self) -> None:
        """Reap the child soon, together with the children that exit in the meantime."""
        if self._reap_timer is None:
            self._reap_timer = self._loop.after(REAP_SECONDS, self._reap)

    def _reap(self) -> None:
        self._reap_timer = None
        for pid, status, usage in _exited_children():
            # A failure at one child must not prevent the others from being reaped.
            self._loop.call(partial(self._child_reaped, pid, status, usage))

    def _child_reaped(self, pid: int, status: int, usage: struct_rusage) -> None:
        if self._on_reaped(pid, status, usage):
            return
        removal = self._removals.pop(pid, None)
        if removal is not None and not removal.is_given_up:
            self._loop.cancel(removal.timer)
            self._remove(removal)

    def remove_directory(
        self, path: str, on_removed: Callable[[], None], seconds: float = REMOVAL_SECONDS
    ) -> None:
        """Begin to remove a private directory with its content, and call back at the end.

        The callback is called once, even if a part of the directory cannot be removed. The next
        start of the keeper then tries again.

        Args:
            path: the path of the directory.
            on_removed: the callback.
            seconds: after this time the program that removes the directory is killed, and the
                callback is called.
        """
        try:
            os.rmdir(path)
        except OSError:
            try:
                owner = os.lstat(path)
            except OSError:
                on_removed()
                return
            # The first attempt is made as the keeper's user. The second is made as the owner, for
            # files that only the owner may remove. The third is made as the keeper's user again,
            # for files that only the keeper's user may remove.
            attempts = [False, True, False] if os.geteuid() != owner.st_uid else [False]
            ids = (owner.st_uid, owner.st_gid)
            self._remove(_Removal(path, ids, attempts, on_removed, time.monotonic() + seconds))
        else:
            on_removed()

    def _remove(self, removal: "_Removal") -> None:
        """Make the next attempt to remove a directory.

        If the directory is gone or no attempt is left, call ``on_removed``.
        """
        if not removal.attempts or not os.path.lexists(removal.path):
            removal.on_removed()
            return
        as_owner = removal.attempts.pop(0)
        command = _REMOVE if os.geteuid() == 0 and not as_owner else _REMOVE_OWN
        arguments = ["/bin/sh", "-c", command, "sh", removal.path]
        if as_owner:
            ids = [str(number) for number in removal.owner]
            arguments = [sys.executable, "-I", "-S", "-c", _AS_OWNER, *ids, *arguments]
        try:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_ENVIRONMENT,
                process_group=0,
            )
        except (OSError, subprocess.SubprocessError):
            removal.on_removed()  # The keeper tries again at its next start.
            return
        process.returncode = 0
        self._add(process.pid, removal)

    def _add(self, pid: int, removal: "_Removal") -> None:
        self._removals[pid] = removal
        removal.timer = self._loop.at(removal.deadline, partial(self._give_up, pid))

    def _give_up(self, pid: int) -> None:
        """Kill the program that removes a directory, and let the directory's command end.

        The program stays in `pids` until it is reaped. SIGKILL also ends a program that SIGSTOP has
        stopped, but not a program that waits in the kernel for a device.
        """
        removal = self._removals[pid]
        if removal.is_given_up:
            return
        removal.is_given_up = True
        self._loop.cancel(removal.timer)
        # The program leads its process group and is not reaped yet, so no other group can have this
        # id. A program that an earlier release of the keeper has started leads no group.
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                kill(pid, signal.SIGKILL)
        logger.warning("directory_not_removed", detail="the next start of the keeper removes it")
        removal.on_removed()

    def give_up_removals(self) -> None:
        """Kill all programs that remove directories; the next start removes the directories."""
        for pid in list(self._removals):
            self._loop.call(partial(self._give_up, pid))

    def to_state(self) -> list[RemovalState]:
        """Return the removals that are under way, for the keeper's next program."""
        return [
            RemovalState(pid, each.path, *each.owner, list(each.attempts), each.deadline)
            for pid, each in self._removals.items()
            if not each.is_given_up
        ]

    def restore(
        self, removals: list[RemovalState], on_removed: Mapping[str, Callable[[], None]]
    ) -> None:
        """Take over the removals of the keeper's previous program.

        Args:
            removals: the removals that the previous program handed over.
            on_removed: the callback for each directory, by the id of its command. This id is also
                the name of the directory.
        """
        for each in removals:
            callback = on_removed.get(os.path.basename(each.path), _do_nothing)
            deadline = each.deadline_at
            if deadline is None:
                deadline = time.monotonic() + REMOVAL_SECONDS
            owner = (each.uid, each.gid)
            self._add(each.pid, _Removal(each.path, owner, each.turns, callback, deadline))
        # A child may have exited during the exec, and the SIGCHLD for it may be lost.
        self.child_exited()


@dataclass(slots=True)
class _Removal:
    """The removal of one directory, by one program at a time.

    Attributes:
        path: the path of the directory.
        owner: the user id and the group id of the directory.
        attempts: the attempts that may follow: True for an attempt as the directory's owner, False
            for an attempt as the keeper's user.
        on_removed: called when the directory is gone, no attempt is left, or the time is over.
        deadline: when the time is over, in seconds of the monotonic clock.
        timer: the timer that gives up the removal at the deadline; None before the first program.
        is_given_up: whether the keeper has killed the program; then no further attempt follows.
    """

    path: str
    owner: tuple[int, int]
    attempts: list[bool]
    on_removed: Callable[[], None]
    deadline: float
    timer: Timer | None = None
    is_given_up: bool = False


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
