"""Retention: the oldest finished commands are pruned, in order, and nothing else."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self

import pytest
from sqlalchemy import Connection, update
from structlog.testing import capture_logs

from scriptservice.errors import StoreUnavailableError
from scriptservice.model import FINAL, OPEN, UNKNOWN_OUTCOME, Command, Status
from scriptservice.protocol.clock import now_us
from scriptservice.server.commands import retention
from scriptservice.server.commands.output_removal import OutputRemover
from scriptservice.server.commands.retention import Retention, RetentionLimits
from scriptservice.store.database.tables import commands
from scriptservice.store.queries import deletions
from scriptservice.store.queries.commands import Inserter
from scriptservice.store.queries.deletions import Deletion, Pruning
from scriptservice.store.queries.journal_changes import Chunk, CommandChange
from scriptservice.store.queries.listing.time_slice import TimeSlice
from scriptservice.store.queries.retention import finished_blocks
from scriptservice.store.queries.retention.finished_blocks import (
    BLOCK_COMMANDS,
    FinishedBlock,
    FinishedCommand,
    block_of,
)
from scriptservice.store.reader import Reader
from scriptservice.store.writer import Writer
from support.service import PATIENCE_SECONDS
from support.store import Store

DAY = 24 * 3600 * 1_000_000


@pytest.fixture(autouse=True)
def short_rounds_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "ROUND_SECONDS", 0.01)
    monkeypatch.setattr(retention, "COMMANDS_AT_ONCE", 4)


def add_finished(
    store: Store, output: bytes = b"", status: Status = Status.SUCCEEDED, at: int = 1
) -> Command:
    """Store a finished command with one chunk of output, or none."""
    command = store.add(Status.RUNNING, labels={"kept": "no"})
    outcome = UNKNOWN_OUTCOME._replace(finished_at=at, stdout_bytes=len(output))
    chunks = [Chunk(command.number, 0, 1, 0, 0, output)] if output else []
    store.store_changes(
        chunks, [CommandChange(command.number, Status.RUNNING, Status.RUNNING, outcome)]
    )
    store.set(command, status=status.value)
    return command


def skip_numbers(store: Store, next_number: int) -> None:
    """Give the next command this number."""
    store._insert = Inserter(next_number)


class Run:
    """Retention with a real writer and reader, for the duration of an ``async with`` block."""

    def __init__(self, store: Store, **limits: Any) -> None:
        self._store = store
        self._limits = RetentionLimits(**limits)
        self.pruned: list[FinishedCommand] = []

    async def __aenter__(self) -> Self:
        self.reader = Reader(self._store.database)
        self.writer = Writer(self._store.database, asyncio.get_running_loop())
        remover = OutputRemover(self.writer)
        self.retention = Retention(
            self._limits,
            reader=self.reader,
            writer=self.writer,
            remover=remover,
            on_pruned=self.pruned.extend,
        )
        self.tasks = [asyncio.create_task(work()) for work in (remover.run, self.retention.run)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            assert not task.done(), task
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.writer.close()
        self.reader.close()

    async def finish(self, running: Sequence[Command]) -> None:
        """Let running commands succeed, and tell retention, as the server does."""
        for command in running:
            await self.writer.submit(finish, command.number)
        self.retention.ended([command.id for command in running])

    async def until_stored(self, count: int) -> None:
        """Wait until the database has this number of commands."""
        await until(lambda: self._store.count("commands") == count)


def finish(connection: Connection, items: list[int]) -> list[None]:
    """Let running commands succeed; a job of the writer."""
    changed = update(commands).where(commands.c.number.in_(items))
    connection.execute(changed.values(status="succeeded", finished_at=5))
    return [None for _ in items]


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110 - only the database changes
        await asyncio.sleep(0.01)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))  # type: ignore[arg-type]


def ids(found: Sequence[Any]) -> list[str]:
    return [str(command.id) for command in found]


def test_the_oldest_finished_commands_are_pruned_in_order(store: Store) -> None:
    statuses = sorted(FINAL)
    finished = [add_finished(store, status=statuses[at % 5]) for at in range(10)]
    unfinished = [store.add(status) for status in sorted(OPEN)]
    finished += [add_finished(store, b"some") for _ in range(12)]

    async def test() -> None:
        async with Run(store, commands=7) as here:
            await here.until_stored(7 + len(unfinished))
            assert ids(here.pruned) == ids(finished[:-7])

    run(test)
    assert [store.find(command.id).status for command in unfinished] == sorted(OPEN)
    for command in finished[-7:]:
        store.find(command.id)
    assert (store.count("output"), store.count("labels")) == (7, 7)
    assert store.count("inputs") == store.count("commands")


def test_output_counts_as_it_is_stored(store: Store) -> None:
    finished = [add_finished(store, b"x" * 100) for _ in range(10)]
    # As if stored by an earlier release: its commands have no value.
    store.set(finished[8], stored_bytes=None)
    # As if compressed: it printed far more.
    store.set(finished[9], stdout_bytes=1 << 40)

    async def test() -> None:
        async with Run(store, output_bytes=350) as here:
            await here.until_stored(3)
            assert ids(here.pruned) == ids(finished[:-3])
            assert {command.stored_bytes for command in here.pruned} == {100}

    run(test)


def test_commands_are_kept_for_days_after_their_end(store: Store) -> None:
    now = now_us()
    long_ago = [add_finished(store, at=now - 3 * DAY) for _ in range(3)]
    lately = add_finished(store, at=now - DAY)
    running = store.add(Status.RUNNING)
    long_ago += [add_finished(store, at=now - 3 * DAY)]

    async def test() -> None:
        async with Run(store, days=2.0) as here:
            await here.until_stored(2)
            assert ids(here.pruned) == ids(long_ago)

    run(test)
    store.find(lately.id)
    store.find(running.id)


def test_what_ends_or_is_deleted_later_counts(store: Store) -> None:
    first = [add_finished(store) for _ in range(4)]
    running = [store.add(Status.RUNNING) for _ in range(3)]

    async def test() -> None:
        async with Run(store, commands=4) as here:
            await until(lambda: here.retention._totals.commands == 4)
            # Deleted by a user: it no longer counts.
            await here.writer.submit(deletions.mark_deleted, Deletion(first[2].id, 1))
            here.retention.deleted(first[2].number)
            await here.finish(running[:2])
            await until(lambda: len(here.pruned) == 1)
            await here.finish(running[2:])
            await until(lambda: len(here.pruned) > 1)
            assert ids(here.pruned) == ids(first[:2])

    run(test)


def test_commands_that_another_server_pruned_are_not_pruned_twice(store: Store) -> None:
    """The sums in memory are too large, since nobody reported the deletion."""
    finished = [add_finished(store) for _ in range(10)]
    # In another block, so that their ends do not lead to a read of the first block.
    skip_numbers(store, 5 * BLOCK_COMMANDS)
    running = [store.add(Status.RUNNING) for _ in range(6)]

    async def test() -> None:
        async with Run(store, commands=10) as here:
            await until(lambda: here.retention._totals.commands == 10)
            numbers = tuple(command.number for command in finished[:5])
            await here.writer.submit(deletions.mark_pruned, Pruning(numbers, 1))
            await here.finish(running)
            await until(lambda: here.pruned)
            assert ids(here.pruned) == ids(finished[5:6])

    run(test)


def test_a_database_that_is_away_is_waited_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = [add_finished(store) for _ in range(3)]
    failures = 2

    def fails(connection: Connection, items: list[Pruning]) -> list[frozenset[int]]:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            message = "cannot store: the database takes no writes now"
            raise StoreUnavailableError(message)
        return deletions.mark_pruned(connection, items)

    monkeypatch.setattr(retention, "mark_pruned", fails)

    async def test() -> None:
        async with Run(store, commands=1) as here:
            await here.until_stored(1)
            assert ids(here.pruned) == ids(finished[:2])

    with capture_logs() as lines:
        run(test)
    assert [line["event"] for line in lines].count("retention_waits") == 1
    (line,) = (line for line in lines if line["event"] == "commands_pruned")
    assert (line["commands"], line["output_bytes"]) == (2, 0)


# The queries


def test_nothing_unfinished_is_marked_whatever_is_requested(store: Store) -> None:
    unfinished = [store.add(status) for status in sorted(OPEN)]
    finished = [add_finished(store, status=status) for status in sorted(FINAL)]
    numbers = tuple(command.number for command in [*unfinished, *finished])
    wanted = frozenset(command.number for command in finished)
    assert store.write(deletions.mark_pruned, Pruning(numbers, 7)) == [wanted]
    # The answer to the commit was lost, so the writer repeats the job.
    assert store.write(deletions.mark_pruned, Pruning(numbers, 7)) == [wanted]
    assert store.write(deletions.mark_pruned, Pruning(numbers, 8)) == [frozenset()]
    assert sorted(store.read(deletions.deleted_numbers)) == sorted(wanted)
    assert store.count("labels") == 0
    for command in unfinished:
        assert store.find(command.id).status is command.status


def test_the_sums_of_all_blocks(store: Store) -> None:
    assert store.read(finished_blocks.scan_blocks, TimeSlice(), 0).blocks == {}
    first = [add_finished(store, b"12", at=40), add_finished(store, b"345", at=30)]
    store.add(Status.RUNNING)
    far = 1000 * BLOCK_COMMANDS + 5
    skip_numbers(store, far)
    last = add_finished(store, at=20)
    wanted = {0: FinishedBlock(2, 5, 30), 1000: FinishedBlock(1, 0, 20)}
    assert store.read(finished_blocks.scan_blocks, TimeSlice(), 0).blocks == wanted
    part = store.read(finished_blocks.scan_blocks, TimeSlice(seconds=0), 0)
    assert part.blocks == {0: wanted[0]}
    rest = store.read(finished_blocks.scan_blocks, TimeSlice(), part.next_block)
    assert (rest.blocks, rest.next_block) == ({1000: wanted[1000]}, None)
    assert store.read(finished_blocks.read_blocks, [0, 7, 1000]) == {**wanted, 7: FinishedBlock()}
    assert ids(store.read(finished_blocks.finished_commands, 0)) == ids(first)
    assert block_of(far) == 1000
    found = store.read(finished_blocks.blocks_of_commands, [first[0].id, last.id])
    assert found == {0, 1000}


def test_a_removal_is_bounded_for_all_commands_together(store: Store) -> None:
    doomed = [add_finished(store) for _ in range(5)]
    for command, pieces in zip(doomed, (30, 30, 30, 0, 1), strict=True):
        chunks = [Chunk(command.number, at, 1, at, 0, b"x") for at in range(pieces)]
        store.store_changes(chunks)
    numbers = [command.number for command in doomed]
    store.write(deletions.mark_pruned, Pruning(tuple(numbers), 1))
    assert store.write(deletions.remove_some, *numbers) == [True, True, False, False, False]
    assert store.count("output") == 91 - 64
    assert store.write(deletions.remove_some, *numbers[2:]) == [True] * 3
    for table in ("commands", "inputs", "output", "labels"):
        assert store.count(table) == 0
