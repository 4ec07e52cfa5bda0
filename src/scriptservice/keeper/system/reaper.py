"""Reaps what the keeper inherits as sub-reaper, and runs the few programs it needs itself.

Scripts and the server are reaped by pid when their pidfd says so. Orphans have none: ``SIGCHLD``
leads here, at most every `REAP_SECONDS`, since asking for any child costs with their number.
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

# Only root removes what is in a directory that may not be written, as build caches often are; and
# only who is not root may change modes here: between look and change a script could put a link.
# Only the owner (or CAP_FOWNER, which a container's root need not have) removes what is in a
# directory with the sticky bit, so what root leaves over is tried as its owner.
_REMOVE = 'exec rm -rf --one-file-system -- "$1"'
_REMOVE_OWN = f'chmod -R u+rwx -- "$1"; {_REMOVE}'
# Nothing of ours: the owner's other processes can read it.
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

Reaped = Callable[[int, int, struct_rusage], bool]


class Reaper:
    """Reaps children, whoever they are.

    Args:
        loop: for waiting a little.
        known: told id, wait status and usage of a reaped child; returns whether it knew it.
    """

    def __init__(self, loop: EventLoop, known: Reaped) -> None:
        self._loop = loop
        self._known = known
        self._planned = False
        self._removing: dict[int, _Removal] = {}

    @property
    def pids(self) -> set[int]:
        """The programs that run for the keeper itself."""
        return set(self._removing)

    def child_exited(self) -> None:
        """Some child has ended: reap soon, together with whoever ends meanwhile."""
        if not self._planned:
            self._planned = True
            self._loop.after(REAP_SECONDS, self._reap)

    def _reap(self) -> None:
        self._planned = False
        for pid, status, usage in _ended_children():
            if not self._known(pid, status, usage) and pid in self._removing:
                self._removal_ended(self._removing.pop(pid))

    def _removal_ended(self, removal: "_Removal") -> None:
        self._remove(removal.path, removal.owner, removal.turns, removal.done)

    def remove_directory(self, path: str, done: Callable[[], None]) -> None:
        """Remove a private working directory without holding up the loop, then call back."""
        try:
            os.rmdir(path)
        except OSError:
            with suppress(OSError):
                owner = os.lstat(path)
                # As ourselves; what is left as its owner; then what only we may.
                turns = [False, True, False] if os.geteuid() != owner.st_uid else [False]
                self._remove(path, (owner.st_uid, owner.st_gid), turns, done)
                return
        done()

    def _remove(
        self, path: str, owner: tuple[int, int], turns: list[bool], done: Callable[[], None]
    ) -> None:
        """Try what is left of the turns, each as the owner or not, until it is gone."""
        if not turns or not os.path.lexists(path):
            done()
            return
        as_owner, *later = turns
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
            done()  # no process, no room: the next start tries again
            return
        process.returncode = 0
        self._removing[process.pid] = _Removal(path, owner, later, done)

    def to_state(self) -> list[RemovalState]:
        """Return the programs that run, for the keeper's next program."""
        return [
            RemovalState(pid, each.path, each.owner[0], each.owner[1], each.turns)
            for pid, each in self._removing.items()
        ]

    def restore(self, removals: list[RemovalState], done: dict[str, Callable[[], None]]) -> None:
        """Take over what the keeper's program before this one had running.

        Args:
            removals: its programs.
            done: whom to call back, by the directory's name, the command's id.
        """
        for each in removals:
            back = done.get(os.path.basename(each.path), _nothing)
            self._removing[each.pid] = _Removal(each.path, (each.uid, each.gid), each.turns, back)
        # What ended in between was announced to nobody.
        self.child_exited()


@dataclass(frozen=True, slots=True)
class _Removal:
    """A program that removes a directory, and what comes after it."""

    path: str
    owner: tuple[int, int]
    turns: list[bool]
    done: Callable[[], None]


def _nothing() -> None:
    """Nobody waits."""


def _ended_children() -> Iterator[tuple[int, int, struct_rusage]]:
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status, usage
