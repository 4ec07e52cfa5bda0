"""Scans: their own thread, their turn, their time, and their end when nobody waits any more."""

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, text

from scriptservice.store.database.engine import READERS, SCANNERS, Database
from scriptservice.store.queries import hosts
from scriptservice.store.queries.listing import time_slice
from scriptservice.store.queries.listing.time_slice import TimeSlice
from scriptservice.store.reader import CROWDED_SCAN_SECONDS, SCAN_NICE, SCAN_SECONDS, Reader

SECONDS = 30
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


class Gate:
    """A scan that stands still until it is let through."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.opened = threading.Event()
        self.seconds: list[float] = []

    def scan(self, connection: Connection, part: TimeSlice) -> None:
        self.seconds.append(part.left_seconds)
        self.begun.set()
        assert self.opened.wait(SECONDS)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


async def begun(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, SECONDS)


def test_reads_by_key_wait_for_no_scan(database: Database, gate: Gate) -> None:
    async def ask() -> None:
        reader = Reader(database)
        scans = [asyncio.ensure_future(reader.scan(gate.scan)) for _ in range(3 * READERS)]
        await begun(gate.begun)
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*(reader.run(hosts.all_hosts) for _ in range(3 * READERS)))
        assert len(gate.seconds) == SCANNERS
        gate.opened.set()
        await asyncio.gather(*scans)
        assert len(gate.seconds) == 3 * READERS
        reader.close()

    asyncio.run(ask())


def test_a_scan_has_less_time_while_others_wait(database: Database, gate: Gate) -> None:
    async def ask() -> None:
        reader = Reader(database)
        gate.opened.set()
        await reader.scan(gate.scan)
        await asyncio.gather(*(reader.scan(gate.scan) for _ in range(8)))
        reader.close()

    asyncio.run(ask())
    assert gate.seconds[0] == gate.seconds[-1] == SCAN_SECONDS
    assert min(gate.seconds) == CROWDED_SCAN_SECONDS


def test_who_goes_while_it_waits_leaves_the_queue(database: Database, gate: Gate) -> None:
    async def ask() -> None:
        reader = Reader(database)
        first = asyncio.ensure_future(reader.scan(gate.scan))
        await begun(gate.begun)
        waiting = [asyncio.ensure_future(reader.scan(gate.scan)) for _ in range(5)]
        await asyncio.sleep(0)
        for each in waiting[:4]:
            each.cancel()
        gate.opened.set()
        await asyncio.gather(first, waiting[4])
        assert all(each.cancelled() for each in waiting[:4])
        reader.close()

    asyncio.run(ask())
    assert len(gate.seconds) == 2


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_statement_ends_when_its_caller_goes(database: Database) -> None:
    """Only SQLite's: PostgreSQL ends one by its statement_timeout, and steps are short."""
    starts = threading.Event()

    def endless(connection: Connection, part: TimeSlice) -> None:
        starts.set()
        connection.execute(text(ENDLESS))

    async def ask() -> None:
        reader = Reader(database)
        scan = asyncio.ensure_future(reader.scan(endless))
        await begun(starts)
        await asyncio.sleep(0.05)  # most likely it runs by now; it has to end in any case
        scan.cancel()
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(scan, return_exceptions=True)
            found = await reader.scan(lambda connection, part: hosts.all_hosts(connection))
        assert found == []
        reader.close()

    asyncio.run(ask())


def test_a_scan_that_nobody_waits_for_ends_between_two_steps(database: Database) -> None:
    steps, ended = threading.Semaphore(0), threading.Event()

    def endless(connection: Connection, part: TimeSlice) -> None:
        try:
            while True:
                steps.release()
                part.worked(0)
        finally:
            ended.set()

    async def ask() -> None:
        reader = Reader(database)
        scan = asyncio.ensure_future(reader.scan(endless))
        await asyncio.to_thread(steps.acquire)
        scan.cancel()
        await begun(ended)
        reader.close()

    asyncio.run(ask())


def test_a_time_slice_counts_work_and_not_rest() -> None:
    part = TimeSlice(1.0, rest=0.001)
    assert part.worked(0.4)
    assert part.left_seconds == pytest.approx(0.6)
    assert not part.worked(0.6)


def test_rows_give_way_and_are_all_there() -> None:
    count = 3 * time_slice.ROWS_AT_ONCE + 1
    assert list(time_slice.giving_way(range(count))) == list(range(count))


def test_the_thread_of_scans_alone_is_nicer_than_the_others(database: Database) -> None:
    def nice(*_: object) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def ask() -> None:
        reader = Reader(database)
        assert await reader.scan(nice) == nice() + SCAN_NICE
        assert await reader.run(nice) == nice()
        reader.close()

    asyncio.run(ask())
