"""The writer's group commits and the reader's snapshots, with their real threads."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, text

from scriptservice.errors import StorageFullError, StoreUnavailableError
from scriptservice.store.database.connect import open_database
from scriptservice.store.database.engine import Database
from scriptservice.store.database.sqlite import sqlite_url
from scriptservice.store.database.tables import tokens
from scriptservice.store.queries import tokens as token_store
from scriptservice.store.queries.tokens import Token
from scriptservice.store.reader import Reader
from scriptservice.store.writer import MAX_BATCH_ITEMS, Writer
from support.service import PATIENCE_SECONDS


@asynccontextmanager
async def writing(database: Database) -> AsyncIterator[Writer]:
    writer = Writer(database, asyncio.get_running_loop())
    try:
        yield writer
    finally:
        await writer.close()


def run(database: Database, test: Callable[[Writer], Awaitable[None]]) -> None:
    async def with_writer() -> None:
        async with writing(database) as writer:
            await test(writer)

    asyncio.run(with_writer())


class Job:
    """Stores names, and remembers the groups of items with which it was called."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []

    def __call__(self, connection: Connection, items: list[str]) -> list[str]:
        self.groups.append(items)
        for name in items:
            if name == "bad":
                message = "cannot store a bad one"
                raise LookupError(message)
            row = {"name": name, "scope": "run", "sha256": name.encode(), "created_at": 0}
            connection.execute(insert(tokens), row)
        return [name.upper() for name in items]


class Gate:
    """A job that blocks the writer until the test opens it, so that other jobs wait."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, connection: Connection, items: list[None]) -> list[None]:
        self.entered.set()
        assert self.opened.wait(PATIENCE_SECONDS)
        return items


async def run_together(writer: Writer, *jobs: tuple[Any, Any]) -> list[Any]:
    """Submit jobs while the writer is blocked; return their results or exceptions."""
    gate = Gate()
    first = writer.submit(gate, None)
    await asyncio.to_thread(gate.entered.wait)
    futures = [writer.submit(job, item) for job, item in jobs]
    gate.opened.set()
    await first
    return await asyncio.gather(*futures, return_exceptions=True)


def names(database: Database) -> set[str]:
    with database.reading.begin() as connection:
        return set(connection.execute(select(tokens.c.name)).scalars())


def test_a_result_comes_after_the_commit(database: Database) -> None:
    async def test(writer: Writer) -> None:
        assert await writer.submit(Job(), "a") == "A"
        assert names(database) == {"a"}

    run(database, test)


def test_waiting_jobs_are_committed_together_in_one_call(database: Database) -> None:
    async def test(writer: Writer) -> None:
        first, second = Job(), Job()
        jobs = [(first, "a"), (first, "b"), (second, "c"), (first, "d")]
        assert await run_together(writer, *jobs) == ["A", "B", "C", "D"]
        assert first.groups == [["a", "b"], ["d"]]
        assert second.groups == [["c"]]

    run(database, test)
    assert names(database) == {"a", "b", "c", "d"}


def test_a_failed_job_does_not_affect_others(database: Database) -> None:
    async def test(writer: Writer) -> None:
        job = Job()
        results = await run_together(writer, (job, "a"), (job, "bad"), (job, "c"), (job, "a"))
        assert results[0] == "A"
        assert isinstance(results[1], LookupError)
        assert results[2] == "C"
        # The database refuses the same name twice.
        assert isinstance(results[3], StoreUnavailableError)
        assert await writer.submit(job, "after") == "AFTER"

    run(database, test)
    assert names(database) == {"a", "c", "after"}


def test_a_failed_job_is_rolled_back(database: Database) -> None:
    def half(connection: Connection, items: list[str]) -> list[str]:
        Job()(connection, items)
        message = "cannot go on"
        raise ValueError(message)

    async def test(writer: Writer) -> None:
        with pytest.raises(ValueError, match="cannot go on"):
            await writer.submit(half, "half")

    run(database, test)
    assert names(database) == set()


def test_more_jobs_than_a_batch_are_all_committed(database: Database) -> None:
    wanted = {f"n{number}" for number in range(MAX_BATCH_ITEMS + 50)}

    async def test(writer: Writer) -> None:
        job = Job()
        await run_together(writer, *((job, name) for name in wanted))
        assert max(map(len, job.groups)) <= MAX_BATCH_ITEMS

    run(database, test)
    assert names(database) == wanted


def test_submitted_jobs_are_committed_before_the_end(database: Database) -> None:
    async def test() -> None:
        writer = Writer(database, asyncio.get_running_loop())
        futures = [writer.submit(Job(), f"n{number}") for number in range(20)]
        await writer.close()
        assert all([await future for future in futures])

    asyncio.run(test())
    assert len(names(database)) == 20


def test_a_cancelled_caller_does_not_stop_its_job(database: Database) -> None:
    async def test(writer: Writer) -> None:
        gate = Gate()
        first = writer.submit(gate, None)
        await asyncio.to_thread(gate.entered.wait)
        left = writer.submit(Job(), "left")
        left.cancel()
        gate.opened.set()
        await first
        assert await writer.submit(Job(), "after") == "AFTER"

    run(database, test)
    assert names(database) == {"left", "after"}


def test_an_unavailable_database_has_its_own_error(database: Database) -> None:
    def wrong(connection: Connection, items: list[None]) -> list[None]:
        connection.execute(text("INSERT INTO no_such_table VALUES (1)"))
        return items

    async def test(writer: Writer) -> None:
        with pytest.raises(StoreUnavailableError):
            await writer.submit(wrong, None)
        assert await writer.submit(Job(), "after") == "AFTER"

    run(database, test)
    assert names(database) == {"after"}


def test_a_full_disk_has_its_own_error(tmp_path: Path) -> None:
    def fill(connection: Connection, items: list[None]) -> list[None]:
        pages = connection.execute(text("PRAGMA page_count")).scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        row = {"name": "x", "scope": "run", "sha256": b"x" * 10_000_000, "created_at": 0}
        connection.execute(insert(tokens), row)
        return items

    async def test(writer: Writer) -> None:
        with pytest.raises(StorageFullError):
            await writer.submit(fill, None)
        assert await writer.submit(Job(), "after") == "AFTER"

    database = open_database(sqlite_url(str(tmp_path / "x.db")))
    run(database, test)
    assert names(database) == {"after"}
    database.close()


# The reader


def test_a_read_sees_one_snapshot(database: Database) -> None:
    reader = Reader(database)

    async def test(writer: Writer) -> None:
        entered, written = threading.Event(), threading.Event()

        def count_twice(connection: Connection) -> tuple[int, int]:
            query = select(func.count()).select_from(tokens)
            before = connection.execute(query).scalar_one()
            entered.set()
            assert written.wait(PATIENCE_SECONDS)
            return before, connection.execute(query).scalar_one()

        counting = asyncio.ensure_future(reader.run(count_twice))
        await asyncio.to_thread(entered.wait)
        await writer.submit(Job(), "meanwhile")
        written.set()
        assert await counting == (0, 0)
        assert await reader.run(lambda connection: len(token_store.all_tokens(connection))) == 1

    run(database, test)
    reader.close()


def test_a_failed_read_can_be_retried(database: Database) -> None:
    reader = Reader(database)
    # An error of SQLite, and one of PostgreSQL that also breaks the second connection.
    failing = text(
        "SELECT no_such"
        if database.writing.dialect.name == "sqlite"
        else "SELECT pg_terminate_backend(pg_backend_pid())"
    )

    async def test() -> None:
        with pytest.raises(StoreUnavailableError):
            await reader.run(lambda connection: connection.execute(failing))
        with pytest.raises(KeyError):
            await reader.run(lambda connection: {}["not ours"])
        assert await reader.run(token_store.all_tokens) == []

    asyncio.run(test())
    reader.close()


# Tokens


def test_only_hashes_of_tokens_are_stored(database: Database) -> None:
    words = token_store.new_token_text()
    assert words.startswith("ss_")
    assert len(words) > 40
    assert words != token_store.new_token_text()
    token = Token("admin", "admin", token_store.digest(words), 5)
    with database.writing.begin() as connection:
        token_store.add_token(connection, [token])
        assert token_store.all_tokens(connection) == [token]
        rows = connection.execute(select(tokens)).all()
    assert words not in repr(rows)


def test_errors_do_not_show_values(database: Database) -> None:
    """Errors are logged."""

    async def test(writer: Writer) -> None:
        job = Job()
        await writer.submit(job, "a secret")
        with pytest.raises(StoreUnavailableError) as caught:
            await writer.submit(job, "a secret")
        assert "INSERT INTO tokens" in str(caught.value.__cause__)
        assert "a secret" not in str(caught.value.__cause__)

    run(database, test)


def test_on_committed_is_called_after_each_commit(database: Database) -> None:
    told: list[tuple[int, float]] = []
    began = time.perf_counter()

    async def test() -> None:
        loop = asyncio.get_running_loop()
        writer = Writer(database, loop, lambda items, seconds: told.append((items, seconds)))
        try:
            job = Job()
            results = await run_together(writer, (job, "a"), (job, "b"))
            assert results == ["A", "B"]
            with pytest.raises(LookupError):
                await writer.submit(job, "bad")
        finally:
            await writer.close()

    asyncio.run(test())
    assert [items for items, _ in told] == [1, 2]
    all_seconds = time.perf_counter() - began
    assert all(0 < seconds < all_seconds for _, seconds in told)
