"""Gates at which scripts under test wait until the test opens them, however slow the machine is."""

import itertools
import os
import weakref
from pathlib import Path
from typing import Protocol

_numbers = itertools.count()
MOST_WAITING = 4096
"""How many scripts a gate lets through that `block` at it."""


class _HasDataDirectory(Protocol):
    data_dir: Path


class Gate:
    """A gate: a script that runs `wait` goes on once the test has called `open`.

    The gate is a FIFO beside the service's data directory, where every user can see it; it is gone
    once the gate is open. Any number of scripts may wait, and come later.

    Args:
        service: whose scripts wait; or whatever else has such a directory.

    Attributes:
        wait: shell text without an end of its own, as in ``f"{gate.wait}; echo more"``. It looks
            again and again, so that traps run meanwhile.
        block: the same without looking: neither processor time nor another process is needed, and
            a trap runs only once the gate is open. For many scripts, and where processes count.
        closed: shell text for a condition: whether the gate is still closed.
    """

    def __init__(self, service: _HasDataDirectory) -> None:
        self._path = service.data_dir.parent / f"gate-{next(_numbers)}"
        os.mkfifo(self._path)
        self._path.chmod(0o644)
        self.closed = f"[ -p {self._path} ]"
        self.wait = f"while {self.closed}; do sleep 0.02; done"
        self.block = f"{{ read -r < {self._path} || :; }} 2>/dev/null"

    def open(self) -> None:
        """Let every script go on that waits here, or comes here later; again: nothing."""
        if not self._path.exists():
            return
        # A script that has found the FIFO may open it only after it was removed, and would then
        # wait for ever for somebody who writes: so this end stays open, with a line for each.
        descriptor = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        weakref.finalize(self, os.close, descriptor)
        os.write(descriptor, b"\n" * MOST_WAITING)
        self._path.unlink()
