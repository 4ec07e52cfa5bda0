"""The recorder: brings home what became of commands, from a keeper's journal into the store.

It reads from the stored position on and stores output, changes and the new position in one
transaction, so that after any crash it goes on exactly where the store is. Only then does it let
the keeper drop what it read, and tell those who follow.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from uuid import UUID

import structlog

from scriptservice.fleet.journal_folding import Batch, Live, apply
from scriptservice.fleet.notifications import Recorded, Step
from scriptservice.fleet.transport import Transport
from scriptservice.model import Command, Status
from scriptservice.protocol.clock import now_us
from scriptservice.protocol.fault_points import reached
from scriptservice.protocol.journal_format import Kind, Record
from scriptservice.protocol.journal_reader import JournalDamagedError, JournalGapError
from scriptservice.store.queries import dispatching
from scriptservice.store.queries.journal_changes import (
    NEVER_STARTED,
    Change,
    Recording,
    RecordingConflictError,
    record,
)
from scriptservice.store.reader import Reader
from scriptservice.store.until_stored import until_stored
from scriptservice.store.writer import Writer

READ_BYTES = 2 << 20
AT_ONCE_BYTES = 64 << 10
AT_ONCE_RECORDS = 256
RETRY_SECONDS = 0.5
CONFLICTS = 5
MANY = 4
PACE_SECONDS = 0.005
"""While this many commands have news at once, they are recorded no more often than this.

Each transaction has a price, whatever is in it. A script that prints alone is recorded at once.
"""

EVENT = "recording_waits"

log = structlog.get_logger()


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
        catches_up: whether what cannot be read is passed over: as long as nobody counts on what
            the journal has told. Later it is an error, and the next server has to find out from
            the keeper what the journal does not tell.
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
        self._live: dict[bytes, Live] = {}
        self._advanced = asyncio.Event()
        self._oldest_at: int | None = None
        self._ahead: asyncio.Task[tuple[list[Record], int]] | None = None
        self.waiting_for_store: str | None = None
        self.position = position
        self.catches_up = True

    def expect(self, command: Command) -> None:
        """Learn of a command that is about to be sent, so that it need not be looked up."""
        # What the journal has told already is newer than what was read of the command.
        self._live.setdefault(
            command.id.bytes,
            Live(
                command.number,
                command.id,
                command.status,
                command.status,
                command.outcome,
                command.created_at,
                now_us(),
            ),
        )

    @property
    def lag_bytes(self) -> int:
        """How much of the journal is published and not stored."""
        return max(0, self._transport.end - self.position)

    @property
    def lag_seconds(self) -> float:
        """How old the oldest record is that is not stored, 0 if there is none."""
        if self._oldest_at is None:
            return 0.0
        return max(0, now_us() - self._oldest_at) / 1e6

    async def run(self) -> None:
        """Record until cancelled.

        Raises:
            JournalGapError: a part of the journal is missing, and it does not catch up any more.
            JournalDamagedError: a part cannot be read, likewise.
        """
        clock = asyncio.get_running_loop().time
        # What an earlier server had stored and not said any more; if nothing follows in the
        # journal, nobody else would say it, and its segments would stay. Stored once more: what
        # it wrote may have been read here from memory, and not be on the disk.
        await self._record([], self.position)
        while True:
            await self._transport.grown(self.position)
            began = clock()
            if await self._step() >= MANY:
                await asyncio.sleep(max(0.0, began + PACE_SECONDS - clock()))

    async def caught_up(self, position: int) -> None:
        """Return once the journal is stored up to a position."""
        while self.position < position:
            self._advanced.clear()
            await self._advanced.wait()

    async def _step(self) -> int:
        """Record what there is; return how many commands had news."""
        try:
            entries, after = await self._read()
        except JournalGapError as error:
            log.error("journal_gap", position=self.position, first=error.first)
            if not self.catches_up:
                raise
            entries, after = [], error.first
        except JournalDamagedError as error:
            log.error("journal_damaged", position=error.position, next=error.next)
            if not self.catches_up:
                raise
            entries, after = [], error.next
        except OSError as error:
            log.error("journal_unreadable", position=self.position, error=str(error))
            if self._oldest_at is None:
                self._oldest_at = now_us()  # it is no younger, and nobody can tell
            await asyncio.sleep(RETRY_SECONDS)
            return 0
        reached("recorder.read")
        return await self._record(entries, after)

    async def _record(self, entries: list[Record], after: int) -> int:
        """Store records, and say so; return of how many commands they were."""
        batch, stopped = await self._store(entries, after)
        reached("recorder.stored")
        self.position = after
        if self._ahead is None:
            self._oldest_at = None  # what follows is read before anyone can look
        self._transport.recorded(after)
        reached("recorder.acknowledged")
        self._advanced.set()
        self._on_recorded(self._settle(batch, stopped))
        return len(batch.touched)

    async def _read(self) -> tuple[list[Record], int]:
        """Return the next records: a few at once, many by way of a thread.

        Handing work to a thread and back costs more than reading what a few scripts say.
        """
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            entries, after = await ahead
            if entries:
                self._oldest_at = entries[0].time_us
            return entries, after
        entries, after = self._transport.read(self.position, AT_ONCE_BYTES)
        if entries:
            self._oldest_at = entries[0].time_us
        if after - self.position < AT_ONCE_BYTES // 2:
            return entries, after
        return await asyncio.to_thread(self._transport.read, self.position, READ_BYTES)

    def _read_ahead(self, position: int) -> None:
        """Read on while what was read is stored, if there is so much that it takes long."""
        if self._ahead is None and self._transport.end - position >= AT_ONCE_BYTES:
            reading = asyncio.to_thread(self._transport.read, position, READ_BYTES)
            self._ahead = asyncio.create_task(reading)

    async def _store(self, entries: list[Record], after: int) -> tuple[Batch, set[int]]:
        """Fold and store records, however often that has to be tried.

        Returns:
            What was stored, and which commands were given back and are stopped.
        """
        conflicts = 0
        while True:
            fold_and_store = partial(
                self._fold_and_store, entries, after, lenient=conflicts >= CONFLICTS
            )
            try:
                return await until_stored(fold_and_store, EVENT, on_waiting=self._waits)
            except RecordingConflictError as error:
                conflicts += 1
                log.warning("recording_conflict", error=str(error))
                await asyncio.sleep(RETRY_SECONDS / 10)

    async def _fold_and_store(
        self, entries: list[Record], after: int, *, lenient: bool
    ) -> tuple[Batch, set[int]]:
        await self._look_up({entry.command_id for entry in entries})
        batch = Batch(self._live, lenient=lenient)
        try:
            if len(entries) <= AT_ONCE_RECORDS:
                self._fold(batch, entries)
            else:
                await asyncio.to_thread(self._fold, batch, entries)
            stored = self._writer.submit(record, self._recording(batch, after))
            self._read_ahead(after)
            return batch, await stored
        except RecordingConflictError:
            # What the store says counts: forget what was thought of these, and look again.
            for command in batch.touched:
                self._live.pop(command, None)
            raise

    def _waits(self, reason: str | None) -> None:
        self.waiting_for_store = reason

    async def _look_up(self, ids: Iterable[bytes]) -> None:
        unknown = [command for command in ids if command not in self._live]
        for start in range(0, len(unknown), 500):
            part = unknown[start : start + 500]
            found = await self._find([UUID(bytes=command) for command in part])
            for row in found:
                if not row.status.final:
                    self._live[row.id.bytes] = Live(
                        row.number, row.id, row.status, row.status, row.outcome, row.created_at
                    )

    async def _find(self, ids: list[UUID]) -> list[dispatching.OpenCommand]:
        return await until_stored(lambda: self._reader.run(dispatching.by_ids, ids), EVENT)

    def _fold(self, batch: Batch, entries: list[Record]) -> None:
        for entry in entries:
            live = batch.command(entry.command_id)
            if live is None or live.status.final:
                continue
            if entry.kind == Kind.OUTPUT:
                batch.add_output(entry.command_id, live, entry)
                continue
            try:
                apply(live, entry)
            except RecordingConflictError as error:
                if not batch.lenient:
                    raise
                # One impossible record must not keep all that follow from being stored.
                log.error("record_skipped", kind=entry.kind.name, error=str(error))
        batch.close_chunks()

    def _recording(self, batch: Batch, after: int) -> Recording:
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

    def _settle(self, batch: Batch, stopped: set[int]) -> Recorded:
        """Make the batch's view of its commands the recorder's own."""
        ended: set[UUID] = set()
        given_back: set[UUID] = set()
        steps: list[Step] = []
        for command, live in batch.touched.items():
            live.stored = live.status
            steps += live.told()
            if live.status.final:
                ended.add(live.id)
            if live.given_back_at is not None:
                given_back.add(live.id)
                if live.number in stopped:
                    steps.append(
                        Step(
                            live.id,
                            Status.STOPPED,
                            live.outcome._replace(
                                reason=NEVER_STARTED, finished_at=live.given_back_at
                            ),
                        )
                    )
            if live.status.final or live.given_back_at is not None:
                del self._live[command]
            else:
                self._live[command] = live
        changed = frozenset(live.id for live in batch.touched.values())
        stored_bytes = [0, 0, 0]
        for chunk in batch.chunks:
            stored_bytes[chunk.stream] += len(chunk.data)
        return Recorded(
            changed,
            ended=frozenset(ended | given_back),
            given_back=frozenset(given_back),
            steps=tuple(steps),
            stdout_bytes=stored_bytes[1],
            stderr_bytes=stored_bytes[2],
        )
