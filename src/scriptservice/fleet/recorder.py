"""The recorder: stores what a keeper's journal says about commands.

The recorder reads the journal from the stored position on. It folds the records, which means that
it turns them into changes of commands. It stores these changes, the output and the new position in
one transaction. So after any crash, the next recorder continues exactly where the database ends.
After the commit, the recorder lets the keeper drop the stored part of the journal, and notifies
followers.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple
from uuid import UUID

import structlog

from scriptservice.fleet.journal_folding import (
    RecordBatch,
    TrackedCommand,
    apply_record,
    merge_output,
)
from scriptservice.fleet.notifications import StatusChange, StoredChanges
from scriptservice.fleet.output_compressor import Frames, OutputCompressor
from scriptservice.fleet.transport import Transport
from scriptservice.model import Command, Status
from scriptservice.protocol.clock import now_us
from scriptservice.protocol.fault_points import reached
from scriptservice.protocol.journal_format import Kind, Record
from scriptservice.protocol.journal_reader import JournalDamagedError, JournalGapError
from scriptservice.store.queries import dispatching
from scriptservice.store.queries.journal_changes import (
    Chunk,
    CommandChange,
    JournalChanges,
    StatusConflictError,
    store_journal_changes,
)
from scriptservice.store.reader import Reader
from scriptservice.store.until_stored import until_stored
from scriptservice.store.writer import Writer

READ_BYTES = 2 << 20
"""Approximate size of a read on a thread."""

COMPRESSIBLE_READ_BYTES = 4 << 20
"""The same while output shrinks to less than half, so that transactions do not become larger.

Submits and other commands' output wait for a transaction that is running.
"""

DIRECT_READ_BYTES = 64 << 10
"""Approximate size of a read in the event loop."""

DIRECT_RECORDS = 256
"""Largest number of records that are folded in the event loop. More records are folded on a
thread."""

RETRY_SECONDS = 0.5
CONFLICTS = 5
"""Number of failed tries after which a record that does not fit its command's status is skipped."""

MANY = 4
PACE_SECONDS = 0.005
"""Minimum time between the starts of two transactions if the first one changed `MANY` commands or
more.

Each transaction has a fixed cost. If a transaction changed fewer commands, new records are stored
at once.
"""

EVENT = "recording_waits"

log = structlog.get_logger()


class _ReadPart(NamedTuple):
    """A part of the journal that was read.

    Attributes:
        records: the records.
        after: journal position after the last record.
        frames: the compressed output of those records that were compressed already, by the journal
            positions after the records.
    """

    records: list[Record]
    after: int
    frames: Frames


class Recorder:
    """Stores one keeper's journal.

    Args:
        transport: connection to that keeper.
        writer: stores the changes.
        reader: looks up unknown commands.
        position: position up to which the journal is stored.
        on_stored: called with the changes after each commit.

    Attributes:
        position: position up to which the journal is stored.
        skip_unreadable: whether unreadable parts of the journal are skipped. The value is True
            while the server starts. Later it is False, and an unreadable part is an error that ends
            the server. The next server then asks the keeper which commands the keeper holds, and
            so finds commands whose end was in the unreadable part.
        waiting_for_store: why the database cannot store changes now; None if it can.
    """

    def __init__(
        self,
        transport: Transport,
        writer: Writer,
        reader: Reader,
        *,
        position: int,
        on_stored: Callable[[StoredChanges], None],
    ) -> None:
        self._transport = transport
        self._writer = writer
        self._reader = reader
        self._on_stored = on_stored
        self._commands: dict[bytes, TrackedCommand] = {}
        self._compressor = OutputCompressor()
        self._stop_reasons: dict[bytes, str] = {}
        self._advanced = asyncio.Event()
        self._oldest_at: int | None = None
        self._ahead: asyncio.Task[_ReadPart] | None = None
        self._read_bytes = READ_BYTES
        self.waiting_for_store: str | None = None
        self.position = position
        self.skip_unreadable = True

    def expect(self, command: Command) -> None:
        """Register a command that is about to be sent, so that it need not be looked up later."""
        # If records of the command were read before, the known state is newer, so keep it.
        self._commands.setdefault(
            command.id.bytes,
            TrackedCommand(
                command.number,
                command.id,
                command.status,
                command.status,
                command.outcome,
                command.created_at,
                now_us(),
            ),
        )

    def explain_stop(self, command_id: UUID, reason: str) -> None:
        """Set the reason that a command gets if it becomes stopped.

        Args:
            command_id: id of a command for which the service itself has requested a stop.
            reason: the reason; it is stored in the database already.
        """
        self._stop_reasons[command_id.bytes] = reason

    @property
    def lag_bytes(self) -> int:
        """Size in bytes of the part of the journal that is not stored yet."""
        return max(0, self._transport.end - self.position)

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest record that is not stored; 0 if all records are stored."""
        if self._oldest_at is None:
            return 0.0
        return max(0, now_us() - self._oldest_at) / 1e6

    async def run(self) -> None:
        """Store the journal until this task is cancelled.

        Raises:
            JournalGapError: a part of the journal is missing, and `skip_unreadable` is False.
            JournalDamagedError: a part of the journal is damaged, and `skip_unreadable` is
                False.
        """
        clock = asyncio.get_running_loop().time
        # An earlier server may have stored this position without acknowledging it. If the journal
        # has no later record, no other acknowledgement follows, and the keeper would never drop
        # the segments before the position. So acknowledge the position here. Store it once more
        # before that, since the position that the database returned may not be on the disk yet.
        await self._store_and_acknowledge(_ReadPart([], self.position, {}))
        while True:
            await self._transport.wait_for_growth(self.position)
            began = clock()
            if await self._store_next() >= MANY:
                await asyncio.sleep(max(0.0, began + PACE_SECONDS - clock()))

    async def wait_until_stored(self, position: int) -> None:
        """Return when the journal is stored up to a position."""
        while self.position < position:
            self._advanced.clear()
            await self._advanced.wait()

    async def _store_next(self) -> int:
        """Store the next records; return the number of commands that these records changed."""
        try:
            part = await self._read()
        except JournalGapError as error:
            log.error("journal_gap", position=self.position, first=error.first)
            if not self.skip_unreadable:
                raise
            part = _ReadPart([], error.first, {})
        except JournalDamagedError as error:
            log.error("journal_damaged", position=error.position, next=error.next)
            if not self.skip_unreadable:
                raise
            part = _ReadPart([], error.next, {})
        except OSError as error:
            log.error("journal_unreadable", position=self.position, error=str(error))
            if self._oldest_at is None:
                self._oldest_at = now_us()  # the record's own time cannot be read
            await asyncio.sleep(RETRY_SECONDS)
            return 0
        reached("recorder.read")
        return await self._store_and_acknowledge(part)

    async def _store_and_acknowledge(self, part: _ReadPart) -> int:
        """Store records, acknowledge and publish them; return the number of changed commands."""
        batch, stopped = await self._store(part)
        reached("recorder.stored")
        self.position = after = part.after
        if self._ahead is None:
            self._oldest_at = None  # the next read follows at once and sets this value
        self._transport.acknowledge(after)
        reached("recorder.acknowledged")
        self._advanced.set()
        self._on_stored(self._finish_batch(batch, stopped))
        return len(batch.touched)

    async def _read(self) -> _ReadPart:
        """Return the next records.

        The switch to a thread and back takes longer than a read of the output of a few scripts. So
        the event loop does small reads itself, and a thread does large reads.
        """
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            part = await ahead
            if part.records:
                self._oldest_at = part.records[0].time_us
            return part
        records, after = self._transport.read(self.position, DIRECT_READ_BYTES)
        if records:
            self._oldest_at = records[0].time_us
        if after - self.position < DIRECT_READ_BYTES // 2:
            return _ReadPart(records, after, {})
        return await self._read_much(self.position)

    async def _read_much(self, position: int) -> _ReadPart:
        """Read, merge and compress the next records on threads."""
        records, after = await asyncio.to_thread(self._read_merged, position)
        frames = await self._compressor.compress_records(records)
        stored = sum(len(frames.get(record.end) or record.data) for record in records)
        self._read_bytes = (
            COMPRESSIBLE_READ_BYTES if stored < (after - position) // 2 else READ_BYTES
        )
        return _ReadPart(records, after, frames)

    def _read_merged(self, position: int) -> tuple[list[Record], int]:
        records, after = self._transport.read_into_buffer(position, self._read_bytes)
        return merge_output(records), after  # merging copies the payloads

    def _read_ahead(self, position: int) -> None:
        """If there are many more records, start to read them while the transaction runs."""
        if self._ahead is None and self._transport.end - position >= DIRECT_READ_BYTES:
            self._ahead = asyncio.create_task(self._read_much(position))

    async def _store(self, part: _ReadPart) -> tuple[RecordBatch, set[int]]:
        """Fold and store records; retry until the database takes them.

        Returns:
            The stored batch, and internal numbers of commands. These are the commands that the
            keeper gave back and that became stopped then, because a stop was requested.
        """
        conflicts = 0
        while True:
            apply_and_store = partial(self._apply_and_store, part, lenient=conflicts >= CONFLICTS)
            try:
                return await until_stored(apply_and_store, EVENT, on_waiting=self._waits)
            except StatusConflictError as error:
                conflicts += 1
                log.warning("recording_conflict", error=str(error))
                await asyncio.sleep(RETRY_SECONDS / 10)

    async def _apply_and_store(
        self, part: _ReadPart, *, lenient: bool
    ) -> tuple[RecordBatch, set[int]]:
        records, after, frames = part
        await self._look_up({record.command_id for record in records})
        batch = RecordBatch(self._commands, lenient=lenient, frames=frames)
        try:
            if len(records) <= DIRECT_RECORDS:
                self._apply(batch, records)
            else:
                await asyncio.to_thread(self._apply, batch, records)
            chunks = await self._compressor.compress_chunks(batch.chunks, batch.chunk_frames)
            stored = self._writer.submit(
                store_journal_changes, self._changes_to_store(batch, chunks, after)
            )
            self._read_ahead(after)
            return batch, await stored
        except StatusConflictError:
            # A command's status in the database differs from its status in `_commands`, and the
            # database is right. Forget the commands of the batch, so that the next try looks them
            # up again.
            for command_id in batch.touched:
                self._commands.pop(command_id, None)
            raise

    def _waits(self, reason: str | None) -> None:
        self.waiting_for_store = reason

    async def _look_up(self, ids: Iterable[bytes]) -> None:
        unknown = [command_id for command_id in ids if command_id not in self._commands]
        for start in range(0, len(unknown), 500):
            part = unknown[start : start + 500]
            found = await self._find([UUID(bytes=command_id) for command_id in part])
            for row in found:
                if not row.status.final:
                    self._commands[row.id.bytes] = TrackedCommand(
                        row.number, row.id, row.status, row.status, row.outcome, row.created_at
                    )
                    if row.stop_reason is not None:
                        self._stop_reasons[row.id.bytes] = row.stop_reason

    async def _find(self, ids: list[UUID]) -> list[dispatching.OpenCommand]:
        return await until_stored(lambda: self._reader.run(dispatching.find_by_ids, ids), EVENT)

    def _apply(self, batch: RecordBatch, records: list[Record]) -> None:
        for record in records:
            command = batch.command(record.command_id)
            if command is None or command.status.final:
                continue
            if record.kind == Kind.OUTPUT:
                batch.add_output(record.command_id, command, record)
                continue
            try:
                apply_record(command, record, self._stop_reasons.get(record.command_id))
            except StatusConflictError as error:
                if not batch.lenient:
                    raise
                # Skip a record that does not fit. Otherwise no later record could be stored.
                log.error("record_skipped", kind=record.kind.name, error=str(error))
        batch.close_chunks()

    def _changes_to_store(
        self, batch: RecordBatch, chunks: list[Chunk], after: int
    ) -> JournalChanges:
        return JournalChanges(
            host=self._transport.host,
            journal=self._transport.journal,
            begin=self.position,
            position=after,
            chunks=chunks,
            changes=[
                CommandChange(
                    command.number,
                    command.stored_status,
                    command.status,
                    command.outcome,
                    command.given_back_at,
                )
                for command in batch.touched.values()
            ],
        )

    def _finish_batch(self, batch: RecordBatch, stopped: set[int]) -> StoredChanges:
        """Keep the open commands of a batch that was committed; return the changes to publish."""
        ended: set[UUID] = set()
        given_back: set[UUID] = set()
        status_changes: list[StatusChange] = []
        for command_id, command in batch.touched.items():
            command.stored_status = command.status
            status_changes += command.take_status_changes()
            if command.status.final:
                ended.add(command.id)
            if command.given_back_at is not None:
                given_back.add(command.id)
                if command.number in stopped:
                    status_changes.append(
                        StatusChange(
                            command.id,
                            Status.STOPPED,
                            command.outcome._replace(
                                reason=self._stop_reasons.get(
                                    command_id, dispatching.STOPPED_BEFORE_START
                                ),
                                finished_at=command.given_back_at,
                            ),
                        )
                    )
            if command.status.final or command.given_back_at is not None:
                del self._commands[command_id]
                self._stop_reasons.pop(command_id, None)
            else:
                self._commands[command_id] = command
        changed = frozenset(command.id for command in batch.touched.values())
        stored_bytes = [0, 0, 0]
        for chunk in batch.chunks:
            stored_bytes[chunk.stream] += len(chunk.data)
        return StoredChanges(
            changed,
            ended=frozenset(ended | given_back),
            given_back=frozenset(given_back),
            status_changes=tuple(status_changes),
            stdout_bytes=stored_bytes[1],
            stderr_bytes=stored_bytes[2],
        )
