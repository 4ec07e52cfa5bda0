"""Scans: their own thread, turns, time slices, and their end when the caller is gone."""

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
from scriptservice.store.reader import CROWDED_SCAN_SECONDS, SCAN_NICENESS, SCAN_SECONDS, Reader

SECONDS = 30
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


class BlockedScan:
    """A scan that waits until the test opens it."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.opened = threading.Event()
        self.seconds: list[float] = []

    def scan(self, connection: Connection, part: TimeSlice) -> None:
        self.seconds.append(part.left_seconds)
        self.begun.set()
        assert self.opened.wait(SECONDS)


@pytest.fixture
def blocked() -> Iterator[BlockedScan]:
    made = BlockedScan()
    yield made
    made.opened.set()


async def begun(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, SECONDS)


def test_reads_by_key_do_not_wait_for_scans(database: Database, blocked: BlockedScan) -> None:
    async def ask() -> None:
        reader = Reader(database)
        scans = [asyncio.ensure_future(reader.scan(blocked.scan)) for _ in range(3 * READERS)]
        await begun(blocked.begun)
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*(reader.run(hosts.all_hosts) for _ in range(3 * READERS)))
        assert len(blocked.seconds) == SCANNERS
        blocked.opened.set()
        await asyncio.gather(*scans)
        assert len(blocked.seconds) == 3 * READERS
        reader.close()

    asyncio.run(ask())


def test_a_scan_has_less_time_while_others_wait(database: Database, blocked: BlockedScan) -> None:
    async def ask() -> None:
        reader = Reader(database)
        blocked.opened.set()
        await reader.scan(blocked.scan)
        await asyncio.gather(*(reader.scan(blocked.scan) for _ in range(8)))
        reader.close()

    asyncio.run(ask())
    assert blocked.seconds[0] == blocked.seconds[-1] == SCAN_SECONDS
    assert min(blocked.seconds) == CROWDED_SCAN_SECONDS


def test_a_cancelled_caller_gives_up_its_turn(database: Database, blocked: BlockedScan) -> None:
    async def ask() -> None:
        reader = Reader(database)
        first = asyncio.ensure_future(reader.scan(blocked.scan))
        await begun(blocked.begun)
        waiting = [asyncio.ensure_future(reader.scan(blocked.scan)) for _ in range(5)]
        await asyncio.sleep(0)
        for each in waiting[:4]:
            each.cancel()
        blocked.opened.set()
        await asyncio.gather(first, waiting[4])
        assert all(each.cancelled() for each in waiting[:4])
        reader.close()

    asyncio.run(ask())
    assert len(blocked.seconds) == 2


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_statement_ends_when_its_caller_is_cancelled(database: Database) -> None:
    """Only on SQLite: PostgreSQL ends it by its statement_timeout, and steps are short."""
    starts = threading.Event()

    def endless(connection: Connection, part: TimeSlice) -> None:
        starts.set()
        connection.execute(text(ENDLESS))

    async def ask() -> None:
        reader = Reader(database)
        scan = asyncio.ensure_future(reader.scan(endless))
        await begun(starts)
        await asyncio.sleep(0.05)  # the statement probably runs by now; it must end in any case
        scan.cancel()
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(scan, return_exceptions=True)
            found = await reader.scan(lambda connection, part: hosts.all_hosts(connection))
        assert found == []
        reader.close()

    asyncio.run(ask())


def test_a_scan_without_a_caller_ends_between_two_steps(database: Database) -> None:
    steps, ended = threading.Semaphore(0), threading.Event()

    def endless(connection: Connection, part: TimeSlice) -> None:
        try:
            while True:
                steps.release()
                part.spend(0)
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
    assert part.spend(0.4)
    assert part.left_seconds == pytest.approx(0.6)
    assert not part.spend(0.6)


def test_release_gil_between_yields_all_rows() -> None:
    count = 3 * time_slice.ROWS_AT_ONCE + 1
    assert list(time_slice.release_gil_between(range(count))) == list(range(count))


def test_only_the_scan_thread_has_a_lower_priority(database: Database) -> None:
    def nice(*_: object) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def ask() -> None:
        reader = Reader(database)
        assert await reader.scan(nice) == nice() + SCAN_NICENESS
        assert await reader.run(nice) == nice()
        reader.close()

    asyncio.run(ask())
