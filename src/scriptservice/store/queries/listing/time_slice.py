"""The time that one scan of the database may use before it answers with what it has found.

A scan works in steps. Between two steps it asks its time slice whether it may continue. If its
caller gives up, the step under way ends at once.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from scriptservice.errors import StoreUnavailableError

Row = TypeVar("Row")

STEP_SECONDS = 0.02
"""How long one step should take: much longer than its fixed cost, much shorter than a slice."""

ROWS_AT_ONCE = 32
"""Number of rows converted before other threads get the interpreter: about 1 ms of work."""


class TimeSlice:
    """The time that one scan may use; created by the caller, used on the scan's thread.

    Args:
        seconds: time for work; rests between steps do not count.
        rest: seconds of rest for each second of work, so that others get the processor.
    """

    def __init__(self, seconds: float = float("inf"), rest: float = 0.0) -> None:
        self.left_seconds = seconds
        self._rest = rest
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._interrupt: Callable[[], None] | None = None

    def spend(self, seconds: float) -> bool:
        """Subtract the time that a step took, and rest; return whether time is left.

        Args:
            seconds: duration of the step.

        Raises:
            StoreUnavailableError: the scan was ended, because its caller is gone.
        """
        self.left_seconds -= seconds
        if self._rest and self.left_seconds > 0:
            self._ended.wait(seconds * self._rest)
        if self._ended.is_set():
            message = "cannot go on with this scan: nobody waits for it any more"
            raise StoreUnavailableError(message)
        return self.left_seconds > 0

    @contextmanager
    def interrupted_by(self, interrupt: Callable[[], None] | None) -> Iterator[None]:
        """Let `end` call a function during the ``with`` block, and not afterwards.

        Args:
            interrupt: ends the statement that the scan's connection runs; safe on any thread.
                None if there is no such function.
        """
        with self._lock:
            self._interrupt = interrupt
        try:
            yield
        finally:
            with self._lock:
                # The next statement on this connection belongs to another caller.
                self._interrupt = None

    def end(self) -> None:
        """End the scan, because its caller is gone. Safe on any thread."""
        self._ended.set()
        with self._lock:
            if self._interrupt is not None:
                self._interrupt()


def release_gil_between(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield rows, and let other threads run after every few rows.

    Converting rows to objects holds the interpreter's lock, which the event loop needs too.
    Without this pause the event loop would wait 5 ms each time, until the interpreter forces the
    thread to release the lock.
    """
    for count, row in enumerate(rows, 1):
        yield row
        if count % ROWS_AT_ONCE == 0:
            time.sleep(0)
