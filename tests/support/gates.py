"""Gates: scripts under test wait at them until the test opens them, on any speed of machine."""

import itertools
import os
import weakref
from pathlib import Path
from typing import Protocol

_numbers = itertools.count()
MAX_WAITING = 4096
"""The largest number of scripts that may `block` at one gate."""


class _HasDataDirectory(Protocol):
    data_dir: Path


class Gate:
    """A gate: a script that runs `wait` continues once the test has called `open`.

    The gate is a FIFO beside the service's data directory, where every user can see it. Opening the
    gate removes the FIFO. Any number of scripts may wait; scripts that come later pass.

    Args:
        service: the service whose scripts wait, or another object with a ``data_dir``.

    Attributes:
        wait: shell commands without a final semicolon, as in ``f"{gate.wait}; echo more"``. They
            poll, so that traps run while the script waits.
        block: the same without polling: it uses no CPU time and no other process, but a trap runs
            only after the gate opens. Use it for many scripts, and where processes are counted.
        closed: a shell condition that is true while the gate is closed.
    """

    def __init__(self, service: _HasDataDirectory) -> None:
        self._path = service.data_dir.parent / f"gate-{next(_numbers)}"
        os.mkfifo(self._path)
        self._path.chmod(0o644)
        self.closed = f"[ -p {self._path} ]"
        self.wait = f"while {self.closed}; do sleep 0.02; done"
        self.block = f"{{ read -r < {self._path} || :; }} 2>/dev/null"

    def open(self) -> None:
        """Let all scripts pass, those that wait and those that come later. May be repeated."""
        if not self._path.exists():
            return
        # A script that has already looked the FIFO up may open it after its removal. It would then
        # wait forever for a writer. So this end stays open, with one line for each script.
        descriptor = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        weakref.finalize(self, os.close, descriptor)
        os.write(descriptor, b"\n" * MAX_WAITING)
        self._path.unlink()
