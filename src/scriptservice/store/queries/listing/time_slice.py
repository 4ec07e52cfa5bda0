"""How long one scan of the database may work before it answers with what it has found so far.

A scan is made in steps. The step that is under way ends at once when its caller gives up; between
two steps the scan asks here whether it may go on.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from scriptservice.errors import StoreUnavailableError

Row = TypeVar("Row")

STEP_SECONDS = 0.02
"""How long one step should take: long beside what it costs to begin one, short beside a slice."""

ROWS_AT_ONCE = 32
"""How many rows are made into objects before other threads get the interpreter: about 1 ms."""


class TimeSlice:
    """The time that one scan may use; made by the caller, used on the scan's thread.

    Args:
        seconds: of work; rests between steps do not count.
        rest: seconds of rest for each second of work, so that a scan leaves room for others.
    """

    def __init__(self, seconds: float = float("inf"), rest: float = 0.0) -> None:
        self.left_seconds = seconds
        self._rest = rest
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._interrupt: Callable[[], None] | None = None

    def worked(self, seconds: float) -> bool:
        """Note what a step took, and rest; return whether there is time for another.

        Raises:
            StoreUnavailableError: nobody waits any more.
        """
        self.left_seconds -= seconds
        if self._rest and self.left_seconds > 0:
            self._ended.wait(seconds * self._rest)
        if self._ended.is_set():
            message = "nobody waits for this scan any more"
            raise StoreUnavailableError(message)
        return self.left_seconds > 0

    @contextmanager
    def interrupted_by(self, interrupt: Callable[[], None] | None) -> Iterator[None]:
        """Let `end` call a function for as long as the ``with`` lasts, and not afterwards.

        Args:
            interrupt: ends the statement that the scan's connection runs; safe on any thread.
        """
        with self._lock:
            self._interrupt = interrupt
        try:
            yield
        finally:
            with self._lock:
                # The connection serves others next: what they run is not interrupted.
                self._interrupt = None

    def end(self) -> None:
        """End the scan: its caller has gone. Safe on any thread."""
        self._ended.set()
        with self._lock:
            if self._interrupt is not None:
                self._interrupt()


def giving_way(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield rows, and let other threads run after every few.

    Making objects of rows holds the interpreter's lock, which the event loop needs too: without
    this it would wait 5 ms each time, until the interpreter takes the lock away.
    """
    for count, row in enumerate(rows, 1):
        yield row
        if count % ROWS_AT_ONCE == 0:
            time.sleep(0)
