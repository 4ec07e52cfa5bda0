"""The dispatcher: sends commands to the keeper, each once, as many at a time as it may run.

The database is the queue. Where there is room a command is marked with the keeper's identity in
the very transaction that stores it; else it waits there until one that ran has ended. Nothing is
sent before its mark is committed.
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
from scriptservice.fleet.journal_folding import INCOMPLETE, by_its_exit
from scriptservice.fleet.notifications import Recorded, Step
from scriptservice.fleet.queue_timeouts import Expiry, Place, ended_step
from scriptservice.fleet.recorder import Recorder
from scriptservice.fleet.transport import Transport
from scriptservice.model import Command, Origin, Status, Submission
from scriptservice.protocol.clock import now_us
from scriptservice.protocol.fault_points import reached
from scriptservice.protocol.frames import SpawnSpec
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import dispatching
from scriptservice.store.queries.commands import Repeated
from scriptservice.store.reader import Reader
from scriptservice.store.until_stored import AGAIN_SECONDS, until_stored
from scriptservice.store.writer import Writer

Stored = Command | Repeated | IdempotencyMismatchError

PICK = 64


def _new_command(stored: "asyncio.Future[Stored]") -> Command | None:
    """Return the command that was stored, None if none was."""
    if stored.exception() is not None:
        return None
    result = stored.result()
    return result if isinstance(result, Command) else None


def spawn_spec(command: Command) -> SpawnSpec:
    """Return what the keeper needs of a command."""
    asked = command.submission
    trace = {} if command.traceparent is None else {"TRACEPARENT": command.traceparent}
    return SpawnSpec(
        id=str(command.id),
        script=asked.script,
        interpreter=list(asked.interpreter),
        args=list(asked.args),
        env={**trace, **asked.env},
        stdin=asked.stdin,
        working_directory=asked.working_directory,
        timeout_seconds=asked.timeout_seconds,
        grace_seconds=asked.grace_seconds,
        leftover_seconds=asked.leftover_seconds,
        output_limit_bytes=asked.output_limit_bytes,
        on_output_limit=asked.on_output_limit.value,
    )


class Dispatcher:
    """Decides when commands are sent to one keeper.

    Args:
        transport: to that keeper.
        recorder: of the same keeper.
        writer: for marks.
        reader: for what waits.
        next_number: of the next command that is stored.
        max_running: how many may run at once, None for as many as the keeper can.
        on_stored: told of each new command.
        on_ended: told of each command that ended without having been sent.
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
        on_ended: Callable[[Step], None],
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
        # Until what an earlier server left is taken over, nothing new may overtake it.
        self._some_wait = True
        self._queued_since_start = 0
        self._paused_until = 0.0
        self._closing = False
        self._wake = asyncio.Event()
        self._stops: dict[UUID, tuple[str, float]] = {}
        self._marking: set[UUID] = set()
        self._expiry = Expiry(
            writer, self._place, lambda command: transport.expire(str(command)), on_ended
        )
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """How many commands are with the keeper."""
        return len(self._sent)

    @property
    def next_number(self) -> int:
        """The number that the next new command gets."""
        return self._insert.next_number

    def _room(self) -> int:
        return self._capacity - len(self._sent) - self._reserved

    def _paused(self) -> bool:
        # It hardly ever is, and asking for the time costs.
        return bool(self._paused_until) and asyncio.get_running_loop().time() < self._paused_until

    def stop(self, command: UUID, signal: str, grace_seconds: float) -> None:
        """Ask for a command to be stopped, whether it is with the keeper or on its way there.

        Args:
            command: its id; the wish is in the database already.
            signal: its full name.
            grace_seconds: from the signal to SIGKILL of the tree.
        """
        if command not in self._sent:
            self._stops[command] = (signal, grace_seconds)
        self._transport.stop(str(command), signal, grace_seconds)

    # Submitting

    async def submit(
        self,
        command: UUID,
        submission: Submission,
        origin: Origin,
        rerun_of: UUID | None,
    ) -> Command | Repeated:
        """Store a command, and send it if there is room; unless the request was here before.

        Args:
            command: its new id.
            submission: what is asked for.
            origin: where it comes from.
            rerun_of: what it repeats.

        Returns:
            The command as it is on disk, or which one the same request made before.

        Raises:
            IdempotencyMismatchError: another request had this name; nothing is stored.
            StoreUnavailableError: the service is ending, or its database does not answer. Where
                that was in the midst of storing it may be stored, and then it runs.
            StorageFullError: nothing is stored.
        """
        if self._closing:
            message = "cannot take commands: the service is shutting down"
            raise StoreUnavailableError(message)
        at_once = (
            not self._some_wait
            and self._room() > 0
            and not self._paused()
            and submission.host in (None, self._transport.host)
        )
        new = command_store.NewCommand(
            id=command,
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
        # A callback, not what follows the await: whoever asked may be gone by then.
        stored.add_done_callback(self._stored_and_marked if at_once else self._stored)
        result = await self._writer.patiently(stored)
        if isinstance(result, IdempotencyMismatchError):
            raise result
        return result

    def _stored_and_marked(self, stored: "asyncio.Future[Stored]") -> None:
        self._reserved -= 1
        command = _new_command(stored)
        if command is not None:
            self._on_stored(command)
            self._send(command)
            # It may have to wait with the keeper, for room on the disk or for a descriptor.
            self._watch(command)
        else:
            self._wake.set()

    def _stored(self, stored: "asyncio.Future[Stored]") -> None:
        command = _new_command(stored)
        if command is not None:
            self._on_stored(command)
            self._some_wait = True
            self._queued_since_start += 1
            self._watch(command)
            self._wake.set()

    def _watch(self, command: Command) -> None:
        timeout_seconds = command.submission.queue_timeout_seconds
        self._expiry.watch(command.id, command.number, command.created_at, timeout_seconds)

    def _send(self, command: Command) -> None:
        reached("dispatch.marked")
        self._recorder.expect(command)
        self._sent.add(command.id)
        self._transport.spawn(spawn_spec(command))
        reached("dispatch.sent")
        if stop := self._stops.pop(command.id, None):
            # It was asked for between the mark and now; the keeper knew nothing of it then.
            self._transport.stop(str(command.id), *stop)
        if self._expiry.is_over(command.id):
            # Between the mark and now as well. It goes with the command, so it comes in time.
            self._transport.expire(str(command.id))

    # Waiting

    async def run(self) -> None:
        """Send what waits whenever there is room, until cancelled."""
        while True:
            await until_stored(self._send_waiting, "dispatch_waits")
            await self._wake.wait()
            self._wake.clear()

    async def _send_waiting(self) -> None:
        while self._some_wait and self._room() > 0 and not self._closing:
            if self._paused():
                delay = self._paused_until - asyncio.get_running_loop().time()
                asyncio.get_running_loop().call_later(delay, self._wake.set)
                return
            room = min(PICK, self._room())
            queued_before = self._queued_since_start
            self._reserved += room
            try:
                picked = await self._reader.run(dispatching.waiting, self._transport.host, room)
                reached("dispatch.picked")
                await self._mark_and_send(picked)
            finally:
                self._reserved -= room
            if len(picked) < room and self._queued_since_start == queued_before:
                self._some_wait = False

    async def _mark_and_send(self, picked: list[Command]) -> None:
        marks = [
            dispatching.Mark(command.number, self._transport.host, self._transport.identity)
            for command in picked
        ]
        marking = {command.id for command in picked}
        self._marking |= marking
        waits = [self._writer.submit(dispatching.mark_dispatched, mark) for mark in marks]
        try:
            # Each by itself: they may stand in several transactions, of which one failed.
            results = await asyncio.gather(*waits, return_exceptions=True)
            for command, marked in zip(picked, results, strict=True):
                if marked is True:
                    self._send(command)
        finally:
            self._marking -= marking
            self._expiry.marked(marking)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _expire_later(self, row: dispatching.OpenCommand) -> None:
        self._expiry.watch(row.id, row.number, row.created_at, row.queue_timeout_seconds)

    def _place(self, command: UUID) -> Place:
        if command in self._sent:
            return Place.SENT
        return Place.MARKING if command in self._marking else Place.WAITING

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What the recorder brings home

    def recorded(self, news: Recorded) -> None:
        """Take note of what has ended or was given back."""
        if not news.ended:
            return
        self._sent -= news.ended
        for command in news.ended:
            self._stops.pop(command, None)
            self._expiry.forget(command)
        if self._ended_before_adoption is not None:
            self._ended_before_adoption |= news.ended
        if news.given_back:
            self._paused_until = asyncio.get_running_loop().time() + AGAIN_SECONDS
            self._some_wait = True
            self._queued_since_start += 1
            self._start(self._expect_again(news.given_back))
        self._wake.set()

    async def _expect_again(self, given_back: frozenset[UUID]) -> None:
        rows = await until_stored(
            lambda: self._reader.run(dispatching.by_ids, list(given_back)), "queue_timeout_waits"
        )
        for row in rows:
            if row.status is Status.QUEUED and row.dispatched_to is None:
                self._expire_later(row)

    # Beginning and end

    async def adopt(
        self, opened: list[dispatching.OpenCommand], held: frozenset[str] | None
    ) -> None:
        """Take over some of what another server left; to be called once the journal is recorded.

        What is marked for this keeper and not in its journal was never seen by it: it is sent
        again. What is marked for another keeper and not in any journal may have run: it is lost.

        Commands go on meanwhile: one may have been sent by this server, or have ended, since the
        list was read.

        Args:
            opened: commands that are not final. One may come again.
            held: what the keeper has, asked before the list was read and the journal recorded;
                None if it is not known. What it does not have, and has not ended by its
                journal, has lost the record of its end.

        Raises:
            StoreError: only some are taken over; the same may be called again.
        """
        for row in opened:
            if row.dispatched_to is None:
                self._expire_later(row)
            elif row.dispatched_to != self._transport.identity:
                await self._lose(row, _why_lost(row))
            elif row.id not in self._sent:
                started = row.status is not Status.QUEUED
                if started and held is not None and str(row.id) not in held:
                    await self._lose(row, "the record of its end is missing")
                else:
                    await self._adopt_sent(row)

    def adopted(self) -> None:
        """All that another server left is taken over."""
        self._ended_before_adoption = None
        self._transport.adopted()

    async def _adopt_sent(self, row: dispatching.OpenCommand) -> None:
        """Take over a command that another server marked for, or sent to, this keeper."""
        command = None
        if row.status is Status.QUEUED:
            with suppress(UnknownCommandError):  # it has ended and was deleted meanwhile
                command = await self._reader.run(command_store.find, row.id)
        if row.id in (self._ended_before_adoption or ()):
            return
        self._sent.add(row.id)
        if command is not None:
            self._send(command)
            self._expire_later(row)
        if row.stop_signal is not None:
            self._transport.stop(str(row.id), row.stop_signal, row.stop_grace_seconds or 0.0)

    async def _lose(self, row: dispatching.OpenCommand, reason: str) -> None:
        status = Status.LOST
        if row.status is Status.RUNNING and row.outcome.exited_at is not None:
            # Its own exit is on record, and nobody had asked for its end: that is what decides.
            status, why = by_its_exit(row.outcome)
            reason = f"{why}; {INCOMPLETE}" if why else INCOMPLETE
        ending = dispatching.Ending(row.number, status, reason, now_us())
        lost = await until_stored(
            lambda: self._writer.submit(dispatching.end_unknown, ending), "adoption_waits"
        )
        if lost:
            self._on_ended(ended_step(row.id, ending, row.outcome))

    def close(self) -> None:
        """Send nothing more and take nothing more."""
        self._closing = True


def _why_lost(row: dispatching.OpenCommand) -> str:
    """Return why nobody can know what became of a command that another keeper was to run."""
    if row.dispatched_to == dispatching.RESTORED:
        return "restored: it may have run after this copy of the database was made"
    if row.status is Status.QUEUED:
        return "its keeper died before it was on record that it started"
    return "its keeper died and left no record of how it ended"
