"""Queue time-outs: they end commands that have waited too long for their start.

The dispatcher owns the queue time-outs. If a command still waits in the database when its time is
over, `QueueTimeouts` ends it there. If the command was sent to the keeper already, `QueueTimeouts`
tells the keeper that the time is over. The keeper then ends the command if it has not started.
"""

import asyncio
from collections.abc import Callable, Coroutine
from enum import Enum, auto
from uuid import UUID

from scriptservice.fleet.notifications import StatusChange
from scriptservice.model import UNKNOWN_OUTCOME, Outcome, Status
from scriptservice.protocol.clock import now_us
from scriptservice.store.queries import dispatching
from scriptservice.store.reader import Reader
from scriptservice.store.until_stored import until_stored
from scriptservice.store.writer import Writer

FOREVER_SECONDS = 1e9


class CommandLocation(Enum):
    """Where a command is on its way to the keeper, as far as the dispatcher knows."""

    WAITING = auto()
    """The command waits in the database, or has ended."""
    MARKING = auto()
    """The command's mark for the keeper is being stored. The command is sent after that."""
    SENT = auto()
    """The command was sent to the keeper."""


def ending_change(
    command_id: UUID, ending: dispatching.Ending, known: Outcome = UNKNOWN_OUTCOME
) -> StatusChange:
    """Return the notification of a command that was ended in the database."""
    outcome = known._replace(finished_at=ending.at, reason=ending.reason)
    return StatusChange(command_id, ending.status, outcome)


class QueueTimeouts:
    """The queue time-outs of one dispatcher.

    Args:
        writer: ends commands that wait in the database.
        reader: reads commands that were given back.
        locate: returns where a command is.
        expire: tells the keeper that a command's time is over. If the command has started, the
            keeper does nothing.
        on_ended: called for each command that was ended in the database.
    """

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        locate: Callable[[UUID], CommandLocation],
        expire: Callable[[UUID], None],
        on_ended: Callable[[StatusChange], None],
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._locate = locate
        self._expire = expire
        self._on_ended = on_ended
        self._timers: dict[UUID, asyncio.TimerHandle] = {}
        self._over: set[UUID] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(
        self, command_id: UUID, number: int, created_at: int, timeout_seconds: float | None
    ) -> None:
        """End a command if it does not start in time; no effect if the command is watched already.

        Args:
            command_id: id of the command.
            number: internal number of the command.
            created_at: time of submission, in microseconds since 1970 UTC.
            timeout_seconds: time from submission until the command must have started; None for no
                time-out.
        """
        if timeout_seconds is None or command_id in self._timers:
            return
        # The timer uses the monotonic clock, so it is not affected if the time of day is set later.
        delay = max(0.0, timeout_seconds - max(0, now_us() - created_at) / 1e6)
        if delay > FOREVER_SECONDS:
            return
        loop = asyncio.get_running_loop()
        self._timers[command_id] = loop.call_later(delay, self._due, command_id, number)

    def watch_row(self, row: dispatching.OpenCommand) -> None:
        """Watch a command that was read from the database; see `watch`."""
        self.watch(row.id, row.number, row.created_at, row.queue_timeout_seconds)

    def watch_returned(self, command_ids: frozenset[UUID]) -> None:
        """Watch the commands again that the keeper gave back and that now wait."""
        self._start(self._watch_returned(command_ids))

    async def _watch_returned(self, command_ids: frozenset[UUID]) -> None:
        rows = await until_stored(
            lambda: self._reader.run(dispatching.find_by_ids, list(command_ids)),
            "queue_timeout_waits",
        )
        for row in rows:
            if row.status is Status.QUEUED and row.dispatched_to is None:
                self.watch_row(row)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def is_over(self, command_id: UUID) -> bool:
        """Return whether a command's time is over but nothing has ended the command yet."""
        return command_id in self._over

    def marked(self, commands: set[UUID]) -> None:
        """Note that the marking of these commands is complete, and forget that their time is over.

        If a command was sent, the dispatcher has told the keeper that the command's time is over.
        If it was not sent, `_end` ends it.
        """
        self._over -= commands

    def forget(self, command_id: UUID) -> None:
        """Stop watching a command that has ended or was given back."""
        if timer := self._timers.pop(command_id, None):
            timer.cancel()

    def _due(self, command_id: UUID, number: int) -> None:
        self._timers.pop(command_id, None)
        if self._locate(command_id) is CommandLocation.SENT:
            self._expire(command_id)
            return
        self._over.add(command_id)
        self._start(self._end(command_id, number))

    async def _end(self, command_id: UUID, number: int) -> None:
        reason = "it waited longer than its queue time-out"
        ending = dispatching.Ending(number, Status.TIMED_OUT, reason, now_us())
        ended = await until_stored(
            lambda: self._writer.submit(dispatching.end_unstarted, ending), "queue_timeout_waits"
        )
        location = self._locate(command_id)
        if not ended and location is CommandLocation.MARKING:
            return  # the dispatcher tells the keeper when it sends the command
        self._over.discard(command_id)
        if ended:
            self._on_ended(ending_change(command_id, ending))
        elif location is CommandLocation.SENT:  # the command was sent during the transaction
            self._expire(command_id)
