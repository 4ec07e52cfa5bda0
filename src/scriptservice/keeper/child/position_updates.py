"""Tells the child, the server, how far the journal reaches: soon, but not more often than useful.

Each update wakes the child, which then reads the new records, stores them and syncs the database.
So one update should announce all records that the child can store in one transaction. The keeper
calls this module at the end of each batch of its event loop.
"""

import time
from collections.abc import Callable
from typing import Protocol

from scriptservice.keeper.system.event_loop import EventLoop, Timer

UPDATE_SECONDS = 0.002
"""On average, at least this much time passes between two updates."""

BURST_SECONDS = 0.004
"""An update may be sent this much earlier than `UPDATE_SECONDS` requires.

So the keeper can send three updates without a pause, for a script's start, output and end.
"""

COALESCE_SECONDS = 0.004
"""How long an update waits if all new records are starts and exits of scripts.

Most scripts are short, so other records follow such a record soon. Because of this wait, one update
announces a script's start, output and end, and the child stores them in one transaction. Otherwise
a client that waits for the end would first have to wait for a transaction that stores only the
start.
"""


class JournalEnd(Protocol):
    """The part of `Journal` that this module needs."""

    @property
    def end(self) -> int: ...  # noqa: D102
    @property
    def urgent_end(self) -> int: ...  # noqa: D102


class PositionUpdates:
    """Tells the child the position at which the journal ends.

    Args:
        loop: runs the timer.
        journal: tells where its last record ends, and where its last urgent record ends.
        send: sends a journal position to the child.
    """

    def __init__(self, loop: EventLoop, journal: JournalEnd, send: Callable[[int], None]) -> None:
        self._loop = loop.supervised(self)
        self._journal = journal
        self._send = send
        self._sent_end = 0
        self._next_at = 0.0
        self._timer: Timer | None = None
        self._due = False

    def callback_failed(self, error: Exception) -> None:  # noqa: ARG002 - it is logged
        """Let the next batch send the update: the loop calls `batch_ended` again after a pause."""
        self._sent_end = -1

    def batch_ended(self) -> None:
        """Send the journal's end now or later, if the journal has grown since the last update."""
        if self._journal.end == self._sent_end:
            self._due = False
            return
        now = time.monotonic()
        earliest = self._next_at - BURST_SECONDS
        if self._journal.urgent_end <= self._sent_end and not self._due:
            earliest = max(earliest, now + COALESCE_SECONDS)
        if now < earliest:
            self._set_timer(earliest)
            return
        self._loop.cancel(self._timer)
        self._timer = None
        self._due = False
        self._next_at = max(now, self._next_at) + UPDATE_SECONDS
        self._sent_end = self._journal.end
        self._send(self._sent_end)

    def _set_timer(self, when: float) -> None:
        if self._timer is None or when < self._timer.when:
            self._loop.cancel(self._timer)
            self._timer = self._loop.at(when, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._due = True  # The keeper calls `batch_ended` at the end of this batch.
