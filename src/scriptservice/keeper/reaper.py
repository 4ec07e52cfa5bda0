"""Reaps what the keeper inherits as sub-reaper, and runs the few programs it needs itself.

Scripts and the server are reaped by pid when their pidfd says so. Orphans have none: ``SIGCHLD``
leads here, at most every `REAP_SECONDS`, since asking for any child costs with their number.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from resource import struct_rusage

from scriptservice.keeper.loop import Loop

REAP_SECONDS = 0.05

# Only root removes what is in a directory that may not be written, as build caches often are; and
# only who is not root may change modes here: between look and change a script could put a link.
_REMOVE = 'exec rm -rf --one-file-system -- "$1"'
_REMOVE_OWN = f'chmod -R u+rwx -- "$1"; {_REMOVE}'

Reaped = Callable[[int, int, struct_rusage], bool]


class Reaper:
    """Reaps children, whoever they are.

    Args:
        loop: for waiting a little.
        known: told id, wait status and usage of a reaped child; returns whether it knew it.
    """

    def __init__(self, loop: Loop, known: Reaped) -> None:
        self._loop = loop
        self._known = known
        self._planned = False
        self._removing: dict[int, Callable[[], None]] = {}

    @property
    def pids(self) -> set[int]:
        """The programs that run for the keeper itself."""
        return set(self._removing)

    def child_ended(self) -> None:
        """Some child has ended: reap soon, together with whoever ends meanwhile."""
        if not self._planned:
            self._planned = True
            self._loop.after(REAP_SECONDS, self._reap)

    def _reap(self) -> None:
        self._planned = False
        for pid, status, usage in _ended_children():
            if not self._known(pid, status, usage) and pid in self._removing:
                self._removing.pop(pid)()

    def remove_directory(self, path: str, done: Callable[[], None]) -> None:
        """Remove a private working directory without holding up the loop, then call back."""
        try:
            os.rmdir(path)
        except OSError:
            with suppress(OSError):
                process = subprocess.Popen(
                    ["/bin/sh", "-c", _REMOVE if os.geteuid() == 0 else _REMOVE_OWN, "sh", path],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                process.returncode = 0
                self._removing[process.pid] = done
                return
        done()


def _ended_children() -> Iterator[tuple[int, int, struct_rusage]]:
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status, usage
