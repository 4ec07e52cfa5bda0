"""The recorder: brings home what became of commands, from a keeper's journal into the store.

It reads from the stored position on and stores output, changes and the new position in one
transaction, so that after any crash it goes on exactly where the store is. Only then does it let
the keeper drop what it read, and tell those who follow.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import structlog

from scriptservice.errors import StoreError
from scriptservice.fleet.transport import Transport
from scriptservice.keeper.journal import JournalDamagedError, JournalGapError, Kind, Record
from scriptservice.model import Command, Outcome, Status, may_become, signal_name
from scriptservice.store import dispatching
from scriptservice.store.output import CHUNK_BYTES
from scriptservice.store.reader import Reader
from scriptservice.store.recording import Change, Chunk, Recording, RecordingConflictError, record
from scriptservice.store.writer import Writer, cause_of

READ_BYTES = 2 << 20
AT_ONCE_BYTES = 64 << 10
AT_ONCE_RECORDS = 256
RETRY_SECONDS = 0.5
CONFLICTS = 5

_INTERRUPTED = "its keeper died before its end was on record; its output may be incomplete"
_INCOMPLETE = "a part of its record is missing; its output may be incomplete"
_AFTER_A_START = (Kind.STOPPING, Kind.DISCARDED, Kind.EXITED, Kind.CLOSED)
_CAUSES = {
    "stop": (Status.STOPPED, None),
    "shutdown": (Status.STOPPED, "the service was shut down"),
    "timeout": (Status.TIMED_OUT, "its time-out passed"),
    "limit": (Status.FAILED, "it was stopped at its output limit"),
}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Recorded:
    """What has just been stored.

    Attributes:
        changed: commands with new output or another status.
        ended: those of them that are final now, or were given back by their keeper.
        given_back: those that wait again.
    """

    changed: frozenset[UUID]
    ended: frozenset[UUID]
    given_back: frozenset[UUID]


@dataclass(slots=True)
class _Live:
    """A command that is not final, as far as the journal has been read."""

    number: int
    id: UUID
    stored: Status
    status: Status
    outcome: Outcome
    given_back_at: int | None = None
    missing_bytes: int = 0

    @property
    def position(self) -> int:
        return self.outcome.stdout_bytes + self.outcome.stderr_bytes

    def become(self, status: Status, **known: Any) -> None:
        """Take a step that the transition table allows.

        Raises:
            RecordingConflictError: it does not.
        """
        if status is not self.status and not may_become(self.status, status):
            message = f"command {self.id} cannot become {status}: it is {self.status}"
            raise RecordingConflictError(message)
        self.status = status
        self.outcome = replace(self.outcome, **known)


@dataclass(slots=True)
class _OpenChunk:
    number: int
    position: int
    stream: int
    stream_offset: int
    time: int
    parts: list[bytes | memoryview]
    size: int

    def closed(self) -> Chunk:
        return Chunk(
            self.number,
            self.position,
            self.stream,
            self.stream_offset,
            self.time,
            b"".join(self.parts),
        )


@dataclass(slots=True)
class _Batch:
    """Records of one read, folded into what is to be stored."""

    live: dict[bytes, _Live]
    lenient: bool = False
    touched: dict[bytes, _Live] = field(default_factory=dict)
    chunks: list[Chunk] = field(default_factory=list)
    open_chunks: dict[bytes, _OpenChunk] = field(default_factory=dict)

    def command(self, command: bytes) -> _Live | None:
        """Return this batch's own copy of a command; None if the store has none that is open."""
        if command in self.touched:
            return self.touched[command]
        known = self.live.get(command)
        if known is None:
            return None
        return self.touched.setdefault(command, replace(known))

    def add_output(self, command: bytes, live: _Live, entry: Record) -> None:
        """Append output, coalesced with what precedes it in the same stream."""
        expected = live.position + live.missing_bytes
        if entry.position < expected:
            return  # stored already: the database is ahead of the position it was given
        live.missing_bytes += entry.position - expected
        size = len(entry.data)
        chunk = self.open_chunks.get(command)
        if chunk and (chunk.stream != entry.stream or chunk.size + size > CHUNK_BYTES):
            self.chunks.append(chunk.closed())
            chunk = None
        outcome = live.outcome
        name = "stdout_bytes" if entry.stream == 1 else "stderr_bytes"
        offset = getattr(outcome, name)
        if chunk is None:
            self.open_chunks[command] = _OpenChunk(
                live.number, live.position, entry.stream, offset, entry.time_us, [entry.data], size
            )
        else:
            chunk.parts.append(entry.data)
            chunk.size += size
        live.outcome = replace(outcome, **{name: offset + size})

    def close_chunks(self) -> None:
        """Add the chunks that are still open."""
        self.chunks += [chunk.closed() for chunk in self.open_chunks.values()]
        self.open_chunks.clear()


class Recorder:
    """Records one keeper's journal.

    Args:
        transport: to that keeper.
        writer: for storing.
        reader: for looking up commands it does not know.
        position: how far the journal is stored.
        on_recorded: told after each commit what is new.

    Attributes:
        position: how far the journal is stored.
        waiting_for_store: why the store takes nothing now, None while it does.
    """

    def __init__(
        self,
        transport: Transport,
        writer: Writer,
        reader: Reader,
        *,
        position: int,
        on_recorded: Callable[[Recorded], None],
    ) -> None:
        self._transport = transport
        self._writer = writer
        self._reader = reader
        self._on_recorded = on_recorded
        self._live: dict[bytes, _Live] = {}
        self._advanced = asyncio.Event()
        self.waiting_for_store: str | None = None
        self.position = position

    def expect(self, command: Command) -> None:
        """Learn of a command that is about to be sent, so that it need not be looked up."""
        # What the journal has told already is newer than what was read of the command.
        self._live.setdefault(
            command.id.bytes,
            _Live(command.number, command.id, command.status, command.status, command.outcome),
        )

    async def run(self) -> None:
        """Record until cancelled."""
        while True:
            await self._transport.grown(self.position)
            await self._step()

    async def caught_up(self, position: int) -> None:
        """Return once the journal is stored up to a position."""
        while self.position < position:
            self._advanced.clear()
            await self._advanced.wait()

    async def _step(self) -> None:
        try:
            entries, after = await self._read()
        except JournalGapError as error:
            log.error("journal_gap", position=self.position, first=error.first)
            entries, after = [], error.first
        except JournalDamagedError as error:
            log.error("journal_damaged", position=error.position, next=error.next)
            entries, after = [], error.next
        except OSError as error:
            log.error("journal_unreadable", position=self.position, error=str(error))
            await asyncio.sleep(RETRY_SECONDS)
            return
        batch = await self._store(entries, after)
        self.position = after
        self._transport.recorded(after)
        self._advanced.set()
        self._on_recorded(self._settle(batch))

    async def _read(self) -> tuple[list[Record], int]:
        """Return the next records: a few at once, many by way of a thread.

        Handing work to a thread and back costs more than reading what a few scripts say.
        """
        entries, after = self._transport.read(self.position, AT_ONCE_BYTES)
        if after - self.position < AT_ONCE_BYTES // 2:
            return entries, after
        return await asyncio.to_thread(self._transport.read, self.position, READ_BYTES)

    async def _store(self, entries: list[Record], after: int) -> _Batch:
        """Fold and store records, however often that has to be tried."""
        conflicts = 0
        while True:
            await self._look_up({entry.id for entry in entries})
            batch = _Batch(self._live, lenient=conflicts >= CONFLICTS)
            try:
                if len(entries) <= AT_ONCE_RECORDS:
                    self._fold(batch, entries)
                else:
                    await asyncio.to_thread(self._fold, batch, entries)
                recording = self._recording(batch, after)
                await self._writer.submit(record, recording)
            except RecordingConflictError as error:
                # What the store says counts: forget what was thought of these, and look again.
                conflicts += 1
                log.warning("recording_conflict", error=str(error))
                for command in batch.touched:
                    self._live.pop(command, None)
                await asyncio.sleep(RETRY_SECONDS / 10)
            except StoreError as error:
                self.waiting_for_store = str(error)
                log.warning("recording_waits", error=str(error), cause=cause_of(error))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.waiting_for_store = None
                return batch

    async def _look_up(self, ids: Iterable[bytes]) -> None:
        unknown = [command for command in ids if command not in self._live]
        for start in range(0, len(unknown), 500):
            part = unknown[start : start + 500]
            found = await self._find([UUID(bytes=command) for command in part])
            for row in found:
                if not row.status.final:
                    self._live[row.id.bytes] = _Live(
                        row.number, row.id, row.status, row.status, row.outcome
                    )

    async def _find(self, ids: list[UUID]) -> list[dispatching.OpenCommand]:
        while True:
            try:
                return await self._reader.run(dispatching.by_ids, ids)
            except StoreError as error:
                log.warning("recording_waits", error=str(error), cause=cause_of(error))
                await asyncio.sleep(RETRY_SECONDS)

    def _fold(self, batch: _Batch, entries: list[Record]) -> None:
        for entry in entries:
            live = batch.command(entry.id)
            if live is None or live.status.final:
                continue
            if entry.kind == Kind.OUTPUT:
                batch.add_output(entry.id, live, entry)
                continue
            try:
                _apply(live, entry)
            except RecordingConflictError as error:
                if not batch.lenient:
                    raise
                # One impossible record must not keep all that follow from being stored.
                log.error("record_skipped", kind=entry.kind.name, error=str(error))
        batch.close_chunks()

    def _recording(self, batch: _Batch, after: int) -> Recording:
        return Recording(
            host=self._transport.host,
            journal=self._transport.journal,
            begin=self.position,
            position=after,
            chunks=batch.chunks,
            changes=[
                Change(live.number, live.stored, live.status, live.outcome, live.given_back_at)
                for live in batch.touched.values()
            ],
        )

    def _settle(self, batch: _Batch) -> Recorded:
        """Make the batch's view of its commands the recorder's own."""
        ended: set[UUID] = set()
        given_back: set[UUID] = set()
        for command, live in batch.touched.items():
            live.stored = live.status
            if live.status.final:
                ended.add(live.id)
            if live.given_back_at is not None:
                given_back.add(live.id)
            if live.status.final or live.given_back_at is not None:
                del self._live[command]
            else:
                self._live[command] = live
        changed = frozenset(live.id for live in batch.touched.values())
        return Recorded(changed, frozenset(ended | given_back), frozenset(given_back))


def _apply(live: _Live, entry: Record) -> None:
    """Let a command take the step that a record tells of."""
    fields = entry.fields()
    if entry.kind in _AFTER_A_START and live.status is Status.QUEUED:
        # The record of its start is missing: it ran, though nobody can say since when.
        live.become(Status.RUNNING)
    match entry.kind:
        case Kind.STARTED if live.status is Status.QUEUED:
            live.given_back_at = None
            live.become(Status.RUNNING, started_at=entry.time_us)
        case Kind.STOPPING:
            live.become(Status.STOPPING)
        case Kind.DISCARDED:
            live.become(live.status, discarded_bytes=fields["discarded_bytes"])
        case Kind.EXITED:
            code = os.waitstatus_to_exitcode(fields["status"])
            live.become(
                live.status,
                exited_at=entry.time_us,
                exit_code=code if code >= 0 else None,
                signal=signal_name(-code) if code < 0 else None,
                user_seconds=fields["user_seconds"],
                system_seconds=fields["system_seconds"],
                max_rss_bytes=fields["max_rss_bytes"],
            )
        case Kind.CLOSED:
            _close(live, entry.time_us, fields)
        case Kind.REFUSED:
            _refuse(live, entry.time_us, fields)
        case Kind.LOST:
            live.become(Status.LOST, finished_at=entry.time_us, reason=fields["reason"])


def _close(live: _Live, at: int, fields: dict[str, Any]) -> None:
    outcome = live.outcome
    if fields["cause"]:
        status, reason = _CAUSES[fields["cause"]]
    elif outcome.exit_code is None and outcome.signal is None:
        status, reason = Status.LOST, None
    elif outcome.exit_code == 0:
        status, reason = Status.SUCCEEDED, None
    elif outcome.signal:
        status, reason = Status.FAILED, f"it was ended by {outcome.signal}"
    else:
        status, reason = Status.FAILED, f"it exited with code {outcome.exit_code}"
    if fields.get("interrupted"):
        reason = f"{reason}; {_INTERRUPTED}" if reason else _INTERRUPTED
    if outcome.started_at is None or live.missing_bytes:
        reason = f"{reason}; {_INCOMPLETE}" if reason else _INCOMPLETE
    live.become(
        status,
        finished_at=at,
        reason=reason,
        leftovers_killed=fields["leftovers_killed"],
        discarded_bytes=fields["discarded_bytes"],
    )


def _refuse(live: _Live, at: int, fields: dict[str, Any]) -> None:
    if fields["retry"]:
        live.given_back_at = at
    elif fields.get("timed_out"):
        live.become(Status.TIMED_OUT, finished_at=at, reason=fields["reason"])
    elif fields["stopped"]:
        live.become(Status.STOPPED, finished_at=at, reason=fields["reason"])
    else:
        live.become(Status.FAILED, finished_at=at, reason=fields["reason"])
