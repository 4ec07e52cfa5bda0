"""The dispatcher: sends commands to the keeper, as long as fewer commands run than are allowed.

The queue is in the database. Before a command is sent, the keeper's identity is stored in the
command's row; this is the command's mark. If the limit of running commands allows one more, the
transaction that stores a new command also stores its mark. Otherwise the command waits in the
database until another command has ended. No command is sent before its mark is committed.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

from scriptservice.errors import (
    BusyError,
    IdempotencyMismatchError,
    StoreUnavailableError,
    UnknownCommandError,
)
from scriptservice.fleet.lost_commands import end_lost, why_lost
from scriptservice.fleet.notifications import StatusChange, StoredChanges
from scriptservice.fleet.queue_timeouts import CommandLocation, QueueTimeouts
from scriptservice.fleet.recorder import Recorder
from scriptservice.fleet.transport import Transport, spawn_spec
from scriptservice.fleet.waiting_hint import WaitingHint
from scriptservice.model import UNKNOWN_OUTCOME, Command, Origin, Status, Submission
from scriptservice.protocol.clock import now_us
from scriptservice.protocol.fault_points import reached
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import dispatching
from scriptservice.store.queries.queueing.concurrency_keys import (
    REPLACING_SIGNAL,
    Admission,
    replaced_reason,
)
from scriptservice.store.queries.queueing.new_commands import (
    AdmittedCommand,
    InsertResult,
    NewCommand,
    RepeatedRequest,
)
from scriptservice.store.queries.queueing.waiting_commands import pick_waiting
from scriptservice.store.reader import Reader
from scriptservice.store.until_stored import AGAIN_SECONDS, until_stored
from scriptservice.store.writer import Writer

MAX_PICKED = 64


def _new_command(stored: "asyncio.Future[InsertResult]") -> Command | AdmittedCommand | None:
    """Return the command that was stored, or None if no new command was stored."""
    if stored.exception() is not None:
        return None
    result = stored.result()
    return result if isinstance(result, Command | AdmittedCommand) else None


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
        self._hint = WaitingHint()
        self._paused_until = 0.0
        self._closing = False
        self._wake = asyncio.Event()
        self._stops: dict[UUID, tuple[str, float]] = {}
        self._marking: set[UUID] = set()
        self._queue_timeouts = QueueTimeouts(
            writer,
            reader,
            self._locate,
            lambda command_id: transport.expire(str(command_id)),
            self._waiting_timed_out,
        )

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
            IdempotencyMismatchError: the key belongs to a different request; nothing is stored.
            BusyError: the concurrency key is busy and the command must not wait; nothing is stored.
            StoreUnavailableError: the service is ending, or the database does not answer. If the
                database failed during the commit, the command may be stored. A stored command runs.
            StorageFullError: the database has no room; nothing is stored.
        """
        if self._closing:
            message = "cannot take commands: the service is shutting down"
            raise StoreUnavailableError(message)
        at_once = (
            not self._hint.may_start
            and self._free_slots() > 0
            and not self._paused()
            and submission.host in (None, self._transport.host)
        )
        new = NewCommand(
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
        if isinstance(result, IdempotencyMismatchError | BusyError):
            raise result
        return result.command if isinstance(result, AdmittedCommand) else result

    def _stored_and_marked(self, stored: "asyncio.Future[InsertResult]") -> None:
        self._reserved -= 1
        self._stored(stored, marked=True)

    def _stored(self, stored: "asyncio.Future[InsertResult]", *, marked: bool = False) -> None:
        """Take the result of a submission; ``marked`` counts if the command has no key."""
        command = _new_command(stored)
        if isinstance(command, AdmittedCommand):
            marked = command.admission.marked
            self._stop_replaced(command.command, command.admission)
            command = command.command
        if command is not None:
            self._on_stored(command)
            if marked:
                self._send(command)
            else:
                self._hint.command_waits()
            # The queue time-out applies even if the command was sent: it may have to wait in the
            # keeper for disk space or a file descriptor.
            self._watch(command)
        if command is None or not marked:
            self._wake.set()

    def _stop_replaced(self, command: Command, admission: Admission) -> None:
        """Complete what the database has stored about commands that a new command replaces."""
        reason = replaced_reason(command.id)
        outcome = UNKNOWN_OUTCOME._replace(finished_at=command.created_at, reason=reason)
        for command_id in admission.ended:
            self._queue_timeouts.forget(command_id)
            self._on_ended(StatusChange(command_id, Status.STOPPED, outcome))
        for holder in admission.stopping:
            self._recorder.explain_stop(holder.id, reason)
            self.stop(holder.id, REPLACING_SIGNAL, holder.grace_seconds)

    def _watch(self, command: Command) -> None:
        timeout_seconds = command.submission.queue_timeout_seconds
        self._queue_timeouts.watch(command.id, command.number, command.created_at, timeout_seconds)

    def _send(self, command: Command) -> None:
        reached("dispatch.marked")
        self._recorder.expect(command)
        self._sent.add(command.id)
        self._hint.sent(command.id, has_key=command.submission.concurrency is not None)
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
        while self._hint.may_start and self._free_slots() > 0 and not self._closing:
            if self._paused():
                delay = self._paused_until - asyncio.get_running_loop().time()
                asyncio.get_running_loop().call_later(delay, self._wake.set)
                return
            room = min(MAX_PICKED, self._free_slots())
            begun = self._hint.begin_look()
            self._reserved += room
            try:
                pick = await self._reader.run(pick_waiting, self._transport.host, room)
                reached("dispatch.picked")
                all_sent = await self._mark_and_send(pick.commands)
            finally:
                self._reserved -= room
            if len(pick.commands) < room:
                self._hint.end_look(begun, is_blocked=pick.is_blocked or not all_sent)

    async def _mark_and_send(self, picked: list[Command]) -> bool:
        """Mark commands and send them; return whether all of them could be marked."""
        host, keeper = self._transport.host, self._transport.identity
        marks = [
            dispatching.DispatchMark(command.number, host, keeper, command.submission.concurrency)
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
        return all(results)

    def _waiting_timed_out(self, change: StatusChange) -> None:
        self._on_ended(change)
        self.waiting_ended()

    def waiting_ended(self) -> None:
        """Note that a waiting command has ended; another one of its key may be next."""
        self._hint.key_changed()
        self._wake.set()

    def _locate(self, command_id: UUID) -> CommandLocation:
        if command_id in self._sent:
            return CommandLocation.SENT
        return CommandLocation.MARKING if command_id in self._marking else CommandLocation.WAITING

    # Changes from the recorder

    def changes_stored(self, changes: StoredChanges) -> None:
        """Note which commands have ended or were given back. They no longer count as running.

        The keeper gives a command back if it does not start the command now, but a later try may
        succeed. Such a command waits in the database again.
        """
        if not changes.ended:
            return
        self._sent -= changes.ended
        self._hint.ended(changes.ended)
        for command_id in changes.ended:
            self._stops.pop(command_id, None)
            self._queue_timeouts.forget(command_id)
        if self._ended_before_adoption is not None:
            self._ended_before_adoption |= changes.ended
        if changes.given_back:
            self._paused_until = asyncio.get_running_loop().time() + AGAIN_SECONDS
            self._hint.command_waits()
            self._queue_timeouts.watch_returned(changes.given_back)
        self._wake.set()

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
                self._queue_timeouts.watch_row(row)
            elif row.dispatched_to != self._transport.identity:
                await end_lost(self._writer, row, why_lost(row), self._on_ended)
            elif row.id not in self._sent:
                started = row.status is not Status.QUEUED
                if started and held is not None and str(row.id) not in held:
                    reason = "the record of its end is missing"
                    await end_lost(self._writer, row, reason, self._on_ended)
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
        self._hint.sent(row.id, has_key=row.concurrency_key is not None)
        if row.stop_reason is not None:
            self._recorder.explain_stop(row.id, row.stop_reason)
        if command is not None:
            self._send(command)
            self._queue_timeouts.watch_row(row)
        if row.stop_signal is not None:
            self._transport.stop(str(row.id), row.stop_signal, row.stop_grace_seconds or 0.0)

    def close(self) -> None:
        """Stop accepting and sending commands."""
        self._closing = True
