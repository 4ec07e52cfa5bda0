"""Queue time-outs: they end commands that have waited for longer than they may.

The dispatcher's; wherever a command is when its time is over, it ends if it has not been started:
in the database while it waits there, by the keeper once it was sent.
"""

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from uuid import UUID

from scriptservice.fleet.notifications import Step
from scriptservice.model import NOTHING_KNOWN, Outcome, Status
from scriptservice.protocol.clock import now_us
from scriptservice.store.queries import dispatching
from scriptservice.store.until_stored import until_stored
from scriptservice.store.writer import Writer

FOREVER_SECONDS = 1e9


class Place(Enum):
    """Where a command is, as far as its dispatcher knows."""

    WAITING = auto()
    """In the database; or it has ended."""
    MARKING = auto()
    """It is being marked for the keeper, and then sent."""
    SENT = auto()


def ended_step(command: UUID, ending: dispatching.Ending, known: Outcome = NOTHING_KNOWN) -> Step:
    """Return the news that a command was ended in the database."""
    outcome = known._replace(finished_at=ending.at, reason=ending.reason)
    return Step(command, ending.status, outcome)


class Expiry:
    """The queue time-outs of one dispatcher.

    Args:
        writer: ends what waits in the database.
        place: says where a command is.
        expire: tells the keeper; without effect there on what has started.
        on_ended: told of each command that was ended in the database.
    """

    def __init__(
        self,
        writer: Writer,
        place: Callable[[UUID], Place],
        expire: Callable[[UUID], None],
        on_ended: Callable[[Step], None],
    ) -> None:
        self._writer = writer
        self._place = place
        self._expire = expire
        self._on_ended = on_ended
        self._timers: dict[UUID, asyncio.TimerHandle] = {}
        self._over: set[UUID] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(
        self, command: UUID, number: int, created_at: int, timeout_seconds: float | None
    ) -> None:
        """End a command if it has not started in time; again without effect.

        Args:
            command: its id.
            number: its internal number.
            created_at: when it was submitted, in microseconds since 1970.
            timeout_seconds: counted from then; None for no time-out.
        """
        if timeout_seconds is None or command in self._timers:
            return
        # Counted by the monotonic clock from here on, so that setting the clock changes nothing.
        delay = max(0.0, timeout_seconds - max(0, now_us() - created_at) / 1e6)
        if delay > FOREVER_SECONDS:
            return
        loop = asyncio.get_running_loop()
        self._timers[command] = loop.call_later(delay, self._due, command, number)

    def is_over(self, command: UUID) -> bool:
        """Whether a command's time is over and nothing has come of it yet."""
        return command in self._over

    def marked(self, commands: set[UUID]) -> None:
        """Commands were marked and sent, or not; who was told that its time is over, knows."""
        self._over -= commands

    def forget(self, command: UUID) -> None:
        """A command has ended, or was given back."""
        if timer := self._timers.pop(command, None):
            timer.cancel()

    def _due(self, command: UUID, number: int) -> None:
        self._timers.pop(command, None)
        if self._place(command) is Place.SENT:
            self._expire(command)
            return
        self._over.add(command)
        task = asyncio.get_running_loop().create_task(self._end(command, number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, command: UUID, number: int) -> None:
        reason = "it waited longer than its queue time-out"
        ending = dispatching.Ending(number, Status.TIMED_OUT, reason, now_us())
        ended = await until_stored(
            lambda: self._writer.submit(dispatching.end_unstarted, ending), "queue_timeout_waits"
        )
        place = self._place(command)
        if not ended and place is Place.MARKING:
            return  # it is told together with being sent
        self._over.discard(command)
        if ended:
            self._on_ended(ended_step(command, ending))
        elif place is Place.SENT:  # on its way to the keeper just then
            self._expire(command)
