"""Tells the child how far the journal reaches, often enough and no more often than is worth it.

Each time wakes the child, which reads, stores and syncs what there is: what it can take at once is
better told at once. ``keeper`` owns this and calls it at the end of each turn of its loop.
"""

import time
from collections.abc import Callable
from typing import Protocol

from scriptservice.keeper.system.event_loop import EventLoop, Timer

TELL_SECONDS = 0.002
"""On average the child is told no more often than this."""

TELL_AHEAD_SECONDS = 0.004
"""So far it may be told ahead of that: the beginning, output and end of one short script."""

FOLLOWED_SECONDS = 0.004
"""What is mostly followed by more at once, a start or an exit, is told so much later if alone.

Most scripts are short: their start, output and end are told, and stored, together then, and whoever
waits for an end does not wait for the transaction of the start before it.
"""


class Told(Protocol):
    """The journal, as far as this has to know it; see `Journal`."""

    @property
    def end(self) -> int: ...  # noqa: D102
    @property
    def urgent_end(self) -> int: ...  # noqa: D102


class PositionUpdates:
    """Announces the end of the journal.

    Args:
        loop: for the time at which it is told later.
        journal: whose end it is.
        tell: called with the position.
    """

    def __init__(self, loop: EventLoop, journal: Told, tell: Callable[[int], None]) -> None:
        self._loop = loop
        self._journal = journal
        self._tell = tell
        self._told_end = 0
        self._tell_at = 0.0
        self._timer: Timer | None = None
        self._due = False

    def batch_ended(self) -> None:
        """Tell the end now, or see to it that it is told soon."""
        if self._journal.end == self._told_end:
            self._due = False
            return
        now = time.monotonic()
        earliest = self._tell_at - TELL_AHEAD_SECONDS
        if self._journal.urgent_end <= self._told_end and not self._due:
            earliest = max(earliest, now + FOLLOWED_SECONDS)
        if now < earliest:
            self._look_again(earliest)
            return
        self._loop.cancel(self._timer)
        self._timer = None
        self._due = False
        self._tell_at = max(now, self._tell_at) + TELL_SECONDS
        self._told_end = self._journal.end
        self._tell(self._told_end)

    def _look_again(self, when: float) -> None:
        if self._timer is None or when < self._timer.when:
            self._loop.cancel(self._timer)
            self._timer = self._loop.at(when, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self._due = True  # and at the end of this turn it is told
