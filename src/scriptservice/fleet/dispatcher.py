"""The dispatcher: sends commands to the keeper, as long as fewer commands run than are allowed.

The queue is in the database. Before a command is sent, the keeper's identity is stored in the
command's row; this is the command's mark. If the limit of running commands allows one more, the
transaction that stores a new command also stores its mark. Otherwise the command waits in the
database until another command has ended. No command is sent before its mark is committed.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from uuid import UUID

from scriptservice.errors import (
    IdempotencyMismatchError,
    StoreUnavailableError,
    UnknownCommandError,
)
from scriptservice.fleet.journal_folding import INCOMPLETE_REASON, status_from_exit
from scriptservice.fleet.notifications import StatusChange, StoredChanges
from scriptservice.fleet.queue_timeouts import CommandLocation, QueueTimeouts, ending_change
from scriptservice.fleet.recorder import Recorder
from scriptservice.fleet.transport import Transport, spawn_spec
from scriptservice.model import Command, Origin, Status, Submission
from scriptservice.protocol.clock import now_us
from scriptservice.protocol.fault_points import reached
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import dispatching
from scriptservice.store.queries.commands import RepeatedRequest
from scriptservice.store.reader import Reader
from scriptservice.store.until_stored import AGAIN_SECONDS, until_stored
from scriptservice.store.writer import Writer

InsertResult = Command | RepeatedRequest | IdempotencyMismatchError

MAX_PICKED = 64


def _new_command(stored: "asyncio.Future[InsertResult]") -> Command | None:
    """Return the command that was stored, or None if no new command was stored."""
    if stored.exception() is not None:
        return None
    result = stored.result()
    return result if isinstance(result, Command) else None


class Dispatcher:
    """Decides when commands are sent to one keeper.

    Args:
        transport: connection to that keeper.
        recorder: recorder of the same keeper.
        writer: stores commands and marks.
        reader: reads waiting commands.
        next_number: internal number that the next new command gets.
        max_running: maximum number of running commands; None for no limit besides the keeper's
            capacity.
        on_stored: called for each new command.
        on_ended: called for each command whose end this server stores in the database without a
            record of the keeper.
    """

    def __init__(
        self,
        transport: Transport,
        recorder: Recorder,
        writer: Writer,
        reader: Reader,
        *,
        next_number: int,
        max_running: int | None,
        on_stored: Callable[[Command], None],
        on_ended: Callable[[StatusChange], None],
    ) -> None:
        self._transport = transport
        self._recorder = recorder
        self._writer = writer
        self._reader = reader
        self._on_stored = on_stored
        self._on_ended = on_ended
        self._insert = command_store.Inserter(next_number)
        ceiling = transport.capacity
        self._capacity = ceiling if max_running is None else min(max_running, ceiling)
        self._sent: set[UUID] = set()
        self._ended_before_adoption: set[UUID] | None = set()
        self._reserved = 0
        # Commands of an earlier server may wait in the database. No new command may overtake them.
        self._may_have_waiting = True
        self._queued_since_start = 0
        self._paused_until = 0.0
        self._closing = False
        self._wake = asyncio.Event()
        self._stops: dict[UUID, tuple[str, float]] = {}
        self._marking: set[UUID] = set()
        self._queue_timeouts = QueueTimeouts(
            writer, self._locate, lambda command_id: transport.expire(str(command_id)), on_ended
        )
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """Number of commands that were sent to the keeper and have not ended."""
        return len(self._sent)

    @property
    def next_number(self) -> int:
        """The number that the next new command gets."""
        return self._insert.next_number

    def _free_slots(self) -> int:
        return self._capacity - len(self._sent) - self._reserved

    def _paused(self) -> bool:
        # The dispatcher pauses after the keeper has given a command back. That is rare, so without
        # a pause the clock is not read. Each read costs time.
        return bool(self._paused_until) and asyncio.get_running_loop().time() < self._paused_until

    def stop(self, command_id: UUID, signal: str, grace_seconds: float) -> None:
        """Stop a command that was sent to the keeper or is about to be sent.

        Args:
            command_id: id of the command; the requested stop is stored in the database already.
            signal: full name of the signal, such as ``SIGTERM``.
            grace_seconds: time between the signal and the SIGKILL for the command's process tree.
        """
        if command_id not in self._sent:
            self._stops[command_id] = (signal, grace_seconds)
        self._transport.stop(str(command_id), signal, grace_seconds)

    # Submitting

    async def submit(
        self,
        command_id: UUID,
        submission: Submission,
        origin: Origin,
        rerun_of: UUID | None,
    ) -> Command | RepeatedRequest:
        """Store a command, and send it if the keeper has room.

        Args:
            command_id: id of the new command.
            submission: what the user submitted.
            origin: where the submission comes from.
            rerun_of: id of the command that the new command repeats, or None.

        Returns:
            The stored command. If the same request came before with the same Idempotency-Key,
            nothing is stored. The result then has the id of the command that the earlier request
            created.

        Raises:
            IdempotencyMismatchError: a different request used the same Idempotency-Key; nothing is
                stored.
            StoreUnavailableError: the service is ending, or the database does not answer. If the
                database failed during the commit, the command may be stored. A stored command runs.
            StorageFullError: the database has no room; nothing is stored.
        """
        if self._closing:
            message = "cannot take commands: the service is shutting down"
            raise StoreUnavailableError(message)
        at_once = (
            not self._may_have_waiting
            and self._free_slots() > 0
            and not self._paused()
            and submission.host in (None, self._transport.host)
        )
        new = command_store.NewCommand(
            id=command_id,
            submission=submission,
            origin=origin,
            created_at=now_us(),
            rerun_of=rerun_of,
            host=self._transport.host if at_once else submission.host,
            dispatched_to=self._transport.identity if at_once else None,
        )
        if at_once:
            self._reserved += 1
        stored = self._writer.submit(self._insert, new)
        # The caller may be cancelled during the await below. The callback runs even then. Code
        # after the await would not run.
        stored.add_done_callback(self._stored_and_marked if at_once else self._stored)
        result = await self._writer.wait_with_timeout(stored)
        if isinstance(result, IdempotencyMismatchError):
            raise result
        return result

    def _stored_and_marked(self, stored: "asyncio.Future[InsertResult]") -> None:
        self._reserved -= 1
        command = _new_command(stored)
        if command is not None:
            self._on_stored(command)
            self._send(command)
            # The queue time-out still applies, because the command may have to wait in the keeper
            # for disk space or a file descriptor.
            self._watch(command)
        else:
            self._wake.set()

    def _stored(self, stored: "asyncio.Future[InsertResult]") -> None:
        command = _new_command(stored)
        if command is not None:
            self._on_stored(command)
            self._may_have_waiting = True
            self._queued_since_start += 1
            self._watch(command)
            self._wake.set()

    def _watch(self, command: Command) -> None:
        timeout_seconds = command.submission.queue_timeout_seconds
        self._queue_timeouts.watch(command.id, command.number, command.created_at, timeout_seconds)

    def _send(self, command: Command) -> None:
        reached("dispatch.marked")
        self._recorder.expect(command)
        self._sent.add(command.id)
        self._transport.spawn(spawn_spec(command))
        reached("dispatch.sent")
        if stop := self._stops.pop(command.id, None):
            # If the keeper got the request to stop before the command, the request had no effect.
            # So send the request again.
            self._transport.stop(str(command.id), *stop)
        if self._queue_timeouts.is_over(command.id):
            # The queue time-out passed before the command was sent, so tell the keeper now. The
            # keeper reads this frame after the frame of the command.
            self._transport.expire(str(command.id))

    # Waiting

    async def run(self) -> None:
        """Send waiting commands whenever the limit allows, until this task is cancelled."""
        while True:
            await until_stored(self._send_waiting, "dispatch_waits")
            await self._wake.wait()
            self._wake.clear()

    async def _send_waiting(self) -> None:
        while self._may_have_waiting and self._free_slots() > 0 and not self._closing:
            if self._paused():
                delay = self._paused_until - asyncio.get_running_loop().time()
                asyncio.get_running_loop().call_later(delay, self._wake.set)
                return
            room = min(MAX_PICKED, self._free_slots())
            queued_before = self._queued_since_start
            self._reserved += room
            try:
                picked = await self._reader.run(
                    dispatching.waiting_commands, self._transport.host, room
                )
                reached("dispatch.picked")
                await self._mark_and_send(picked)
            finally:
                self._reserved -= room
            if len(picked) < room and self._queued_since_start == queued_before:
                self._may_have_waiting = False

    async def _mark_and_send(self, picked: list[Command]) -> None:
        marks = [
            dispatching.DispatchMark(command.number, self._transport.host, self._transport.identity)
            for command in picked
        ]
        marking = {command.id for command in picked}
        self._marking |= marking
        futures = [self._writer.submit(dispatching.mark_dispatched, mark) for mark in marks]
        try:
            # Check each result by itself. The marks may be in several transactions, and some of
            # these transactions may have failed.
            results = await asyncio.gather(*futures, return_exceptions=True)
            for command, marked in zip(picked, results, strict=True):
                if marked is True:
                    self._send(command)
        finally:
            self._marking -= marking
            self._queue_timeouts.marked(marking)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _watch_row(self, row: dispatching.OpenCommand) -> None:
        self._queue_timeouts.watch(row.id, row.number, row.created_at, row.queue_timeout_seconds)

    def _locate(self, command_id: UUID) -> CommandLocation:
        if command_id in self._sent:
            return CommandLocation.SENT
        return CommandLocation.MARKING if command_id in self._marking else CommandLocation.WAITING

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Changes from the recorder

    def changes_stored(self, changes: StoredChanges) -> None:
        """Note which commands have ended or were given back. They no longer count as running.

        The keeper gives a command back if it does not start the command now, but a later try may
        succeed. Such a command waits in the database again.
        """
        if not changes.ended:
            return
        self._sent -= changes.ended
        for command_id in changes.ended:
            self._stops.pop(command_id, None)
            self._queue_timeouts.forget(command_id)
        if self._ended_before_adoption is not None:
            self._ended_before_adoption |= changes.ended
        if changes.given_back:
            self._paused_until = asyncio.get_running_loop().time() + AGAIN_SECONDS
            self._may_have_waiting = True
            self._queued_since_start += 1
            self._start(self._watch_returned(changes.given_back))
        self._wake.set()

    async def _watch_returned(self, given_back: frozenset[UUID]) -> None:
        rows = await until_stored(
            lambda: self._reader.run(dispatching.find_by_ids, list(given_back)),
            "queue_timeout_waits",
        )
        for row in rows:
            if row.status is Status.QUEUED and row.dispatched_to is None:
                self._watch_row(row)

    # Start and end

    async def adopt(
        self, opened: list[dispatching.OpenCommand], held: frozenset[str] | None
    ) -> None:
        """Adopt some of the open commands of an earlier server.

        The caller must first wait until the journal is stored in the database. After that, a
        command with a mark is one of these:

        * It is marked for this keeper and still queued. The journal has no record of its start, so
          the keeper may not have received it. The dispatcher sends it again.
        * It is marked for this keeper and has started. The dispatcher counts it as running. If a
          stop was requested, the dispatcher sends the request again.
        * It is marked for another keeper, and the journal has no record of its end. It may have
          run, so the dispatcher ends it as lost.

        A command may change after ``opened`` was read: this server may have sent it, or it may have
        ended. The dispatcher does not change such a command.

        Args:
            opened: commands that were not final when the list was read. A command may be passed
                more than once.
            held: ids of the commands that the keeper holds, which means that they have started and
                have not ended; None if unknown. The caller must ask the keeper first, then wait
                until the journal is stored, and then read ``opened``. So if a command has started,
                is not in ``held`` and has no end in the database, the record of its end is missing.
                The dispatcher then ends the command.

        Raises:
            StoreError: the database does not answer, and only some of the commands are adopted. The
                call may be repeated.
        """
        for row in opened:
            if row.dispatched_to is None:
                self._watch_row(row)
            elif row.dispatched_to != self._transport.identity:
                await self._lose(row, _why_lost(row))
            elif row.id not in self._sent:
                started = row.status is not Status.QUEUED
                if started and held is not None and str(row.id) not in held:
                    await self._lose(row, "the record of its end is missing")
                else:
                    await self._adopt_sent(row)

    def finish_adoption(self) -> None:
        """Declare that all open commands of an earlier server are adopted."""
        self._ended_before_adoption = None
        self._transport.finish_adoption()

    async def _adopt_sent(self, row: dispatching.OpenCommand) -> None:
        """Adopt a command that an earlier server marked for this keeper, and may have sent."""
        command = None
        if row.status is Status.QUEUED:
            with suppress(UnknownCommandError):  # the command was deleted meanwhile
                command = await self._reader.run(command_store.find, row.id)
        if row.id in (self._ended_before_adoption or ()):
            return
        self._sent.add(row.id)
        if command is not None:
            self._send(command)
            self._watch_row(row)
        if row.stop_signal is not None:
            self._transport.stop(str(row.id), row.stop_signal, row.stop_grace_seconds or 0.0)

    async def _lose(self, row: dispatching.OpenCommand, reason: str) -> None:
        status = Status.LOST
        if row.status is Status.RUNNING and row.outcome.exited_at is not None:
            # The journal has a record of the script's exit, and no record of a stop before it. So
            # the exit decides the status.
            status, why = status_from_exit(row.outcome)
            reason = f"{why}; {INCOMPLETE_REASON}" if why else INCOMPLETE_REASON
        ending = dispatching.Ending(row.number, status, reason, now_us())
        lost = await until_stored(
            lambda: self._writer.submit(dispatching.end_unknown, ending), "adoption_waits"
        )
        if lost:
            self._on_ended(ending_change(row.id, ending, row.outcome))

    def close(self) -> None:
        """Stop accepting and sending commands."""
        self._closing = True


def _why_lost(row: dispatching.OpenCommand) -> str:
    """Return why the outcome of a command that was sent to another keeper is unknown."""
    if row.dispatched_to == dispatching.RESTORED:
        return "restored: it may have run after this copy of the database was made"
    if row.status is Status.QUEUED:
        return "its keeper died, and no record shows that it started"
    return "its keeper died and left no record of how it ended"
