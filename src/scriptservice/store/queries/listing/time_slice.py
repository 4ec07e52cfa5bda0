"""The time that one scan of the database may use before it returns what it has found.

A scan works in steps. Between two steps the scan asks its time slice whether it may continue. If
the scan's caller gives up, the current step ends at once.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from scriptservice.errors import StoreUnavailableError

Row = TypeVar("Row")

STEP_SECONDS = 0.02
"""How long one step of a scan should take: much longer than the fixed cost of a step, and much
shorter than a time slice.
"""

ROWS_AT_ONCE = 32
"""Number of rows that are converted before other threads may run: about 1 ms of work."""


class TimeSlice:
    """The time that one scan may use; the caller creates it, and the scan's thread uses it.

    Args:
        seconds: time for work; rests between steps do not count.
        rest: seconds of rest for each second of work, so that other threads get the processor.

    Attributes:
        left_seconds: how many seconds the scan may still work.
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
            StoreUnavailableError: `end` was called, because nobody waits for the scan any more.
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
        """Let `end` call a function during the ``with`` block, but not after it.

        Args:
            interrupt: a function that ends the statement that the scan's connection is running;
                any thread may call it. None if there is no such function.
        """
        with self._lock:
            self._interrupt = interrupt
        try:
            yield
        finally:
            with self._lock:
                # `end` must not interrupt the next statement on this connection, because that
                # statement belongs to another caller.
                self._interrupt = None

    def end(self) -> None:
        """End the scan, because nobody waits for it any more; may be called on any thread."""
        self._ended.set()
        with self._lock:
            if self._interrupt is not None:
                self._interrupt()


def release_gil_between(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield rows, and let other threads run after every `ROWS_AT_ONCE` rows.

    A thread that converts rows to objects holds the interpreter's lock, and the event loop needs
    that lock too. Without these pauses the event loop would wait 5 ms each time it needs the lock:
    only after that time does the interpreter force the other thread to release the lock.
    """
    for count, row in enumerate(rows, 1):
        yield row
        if count % ROWS_AT_ONCE == 0:
            time.sleep(0)
