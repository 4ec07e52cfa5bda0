"""What is deleted leaves the SQLite file, step by step or by a rewrite; nothing else changes."""

import asyncio
import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, insert
from structlog.testing import capture_logs

from scriptservice.errors import ConfigurationError
from scriptservice.store.database.backup import back_up
from scriptservice.store.database.connect import open_database
from scriptservice.store.database.engine import LOCK_SECONDS, Database
from scriptservice.store.database.free_pages import ROUND_STEPS, STEP_PAGES
from scriptservice.store.database.sqlite import sqlite_url
from scriptservice.store.database.tables import output
from scriptservice.store.database.vacuum import COPY_SUFFIX, vacuum
from scriptservice.store.writer import Writer
from support.disks import fill, fill_until, small_disk
from support.service import eventually, new_directory
from support.store import Store

CHUNK_BYTES = 1 << 18
CHUNKS = 48
KEPT = 4


def ignore(_: int, __: int) -> None:
    """Ignore the progress."""


def set_output(connection: Connection, items: list[int]) -> list[None]:
    """Store chunks of output, or delete all but the last chunks; a job of the writer."""
    for chunks in items:
        if chunks:
            rows = [
                {"number": 1, "position": at, "stream": 1, "stream_offset": at, "time": 0,
                 "data": os.urandom(CHUNK_BYTES)}
                for at in range(chunks)
            ]  # fmt: skip
            connection.execute(insert(output), rows)
        else:
            connection.execute(delete(output).where(output.c.position < CHUNKS - KEPT))
    return [None] * len(items)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scriptservice.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    opened = open_database(sqlite_url(str(path)))
    yield opened
    opened.close()


def pragma(path: Path, name: str) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def content(path: Path) -> list[tuple[int, bytes]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute("SELECT position, data FROM output").fetchall()


def fill_and_delete(path: Path) -> list[tuple[int, bytes]]:
    """Store output, and delete most of it; return the rest."""
    opened = open_database(sqlite_url(str(path)))
    with opened.writing.begin() as connection:
        set_output(connection, [CHUNKS, 0])
    opened.close()
    return content(path)


def as_an_earlier_release(path: Path) -> None:
    """Make the file as a release made it that did not set ``auto_vacuum``."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
    assert pragma(path, "auto_vacuum") == 0


def test_a_new_file_can_be_made_smaller_and_so_can_its_backup(
    path: Path, database: Database
) -> None:
    assert pragma(path, "auto_vacuum") == 2
    copy = path.with_name("copy.db")
    back_up(str(path), str(copy), ignore)
    assert pragma(copy, "auto_vacuum") == 2
    open_database(sqlite_url(str(copy))).close()  # as after a restore
    assert pragma(copy, "auto_vacuum") == 2


def test_connections_to_a_file_with_pages_take_no_lock(path: Path, database: Database) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for engine in (database.reading, database.scanning, database.writing):
            with contextlib.closing(engine.raw_connection()) as connection:
                connection.cursor().execute("SELECT count(*) FROM commands")


def test_the_file_becomes_smaller_while_a_writer_works_on_it(
    path: Path, database: Database
) -> None:
    limit = (KEPT + 2) * CHUNK_BYTES + (1 << 20)

    def file_bytes() -> int:
        return path.stat().st_size

    async def test() -> None:
        writer = Writer(database, asyncio.get_running_loop())
        await writer.submit(set_output, CHUNKS)
        await writer.submit(set_output, 0)
        writer.release_space()
        store = Store(database)
        while file_bytes() > limit:
            await writer.submit(store._insert, store.new())
            await asyncio.sleep(0.1)  # steps have to wait for a writer without jobs
        await writer.close()

    asyncio.run(asyncio.wait_for(test(), 180))
    database.close()
    assert len(content(path)) == KEPT


def test_a_long_reader_does_not_let_the_log_grow(path: Path, database: Database) -> None:
    log = path.with_name(f"{path.name}-wal")
    fill_and_delete(path)
    free = pragma(path, "freelist_count")
    release = database.release_free_pages
    assert release is not None
    with contextlib.closing(database.writing.raw_connection()) as connection:
        writing = connection.driver_connection
        with database.reading.begin() as reader:
            reader.exec_driver_sql("SELECT count(*) FROM output")
            for _ in range(4 * ROUND_STEPS):
                assert release(writing) is not None
            grown = log.stat().st_size
            assert grown < 4 * ROUND_STEPS * STEP_PAGES * 4096
            assert pragma(path, "freelist_count") == free - ROUND_STEPS * STEP_PAGES
            for _ in range(ROUND_STEPS):
                release(writing)
            assert log.stat().st_size == grown
        steps = 0
        while release(writing) is not None:
            steps += 1
            assert steps < 1000
    assert pragma(path, "freelist_count") == 0
    assert path.stat().st_size < (KEPT + 1) * CHUNK_BYTES + (1 << 20)


def test_a_step_does_not_wait_for_another_process(path: Path, database: Database) -> None:
    fill_and_delete(path)
    release = database.release_free_pages
    assert release is not None
    with contextlib.closing(database.writing.raw_connection()) as connection:
        writing = connection.driver_connection
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            before = pragma(path, "freelist_count")
            began = time.monotonic()
            assert release(writing) == 1.0
            assert time.monotonic() - began < LOCK_SECONDS - 5
            assert pragma(path, "freelist_count") == before
        assert writing.execute("PRAGMA busy_timeout").fetchone() == (30_000,)
        release(writing)
        assert pragma(path, "freelist_count") == before - STEP_PAGES


def test_a_step_that_fails_on_a_full_disk_is_repeated() -> None:
    with small_disk(new_directory() / "disk", size=40 << 20) as disk:
        path = disk / "scriptservice.db"
        database = open_database(sqlite_url(str(path)))

        def empty_log() -> bool:
            with contextlib.closing(sqlite3.connect(path)) as other:
                row = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                return bool(row[0] == 0)

        async def test() -> None:
            writer = Writer(database, asyncio.get_running_loop())
            await writer.submit(set_output, 24)
            await writer.submit(set_output, 0)
            eventually(empty_log, "an empty log")
            ballast = fill(disk)
            with capture_logs() as lines:
                writer.release_space()
                eventually(lambda: lines, "a line of the log")
            assert lines[0]["event"] == "release_failed"
            assert "disk is full" in lines[0]["reason"]
            assert writer.unavailable_reason is None
            ballast.unlink()
            writer.release_space()
            eventually(lambda: path.stat().st_size < 1 << 20, "a smaller file")
            await writer.close()

        asyncio.run(test())
        database.close()


def test_a_file_of_an_earlier_release_is_converted(path: Path) -> None:
    open_database(sqlite_url(str(path))).close()
    as_an_earlier_release(path)
    kept = fill_and_delete(path)
    opened = open_database(sqlite_url(str(path)))
    with contextlib.closing(opened.writing.raw_connection()) as connection:
        assert opened.release_free_pages is not None
        assert opened.release_free_pages(connection.driver_connection) is None
    opened.close()
    os.chown(path, 1234, 1234) if os.geteuid() == 0 else None
    path.with_name(path.name + COPY_SUFFIX).write_text("left by an interrupted rewrite")
    plans: list[tuple[int, int]] = []
    sizes: list[tuple[int, int]] = []
    before, after = vacuum(
        str(path), lambda *plan: plans.append(plan), lambda *size: sizes.append(size)
    )
    assert before > CHUNKS * CHUNK_BYTES
    assert after == path.stat().st_size < (KEPT + 1) * CHUNK_BYTES
    assert after <= plans[0][0] < after + (2 << 20)
    assert all(done <= total * 1.1 for done, total in sizes)
    assert pragma(path, "auto_vacuum") == 2
    assert content(path) == kept
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_uid == (1234 if os.geteuid() == 0 else os.geteuid())
    assert os.listdir(path.parent) == [path.name]
    opened = open_database(sqlite_url(str(path)))  # of this release, and usable
    Store(opened).add(name="new")
    opened.close()


def test_a_database_in_use_is_not_rewritten(path: Path, database: Database) -> None:
    store = Store(database)
    store.add(name="kept")
    inode = path.stat().st_ino
    with pytest.raises(ConfigurationError, match="another process uses the database"):
        vacuum(str(path), ignore, ignore)
    store.add(name="more")
    assert path.stat().st_ino == inode


@pytest.mark.parametrize("at", ["plan", "copy"])
def test_an_interruption_changes_nothing(path: Path, at: str) -> None:
    open_database(sqlite_url(str(path))).close()
    as_an_earlier_release(path)
    kept = fill_and_delete(path)
    inode = path.stat().st_ino

    def interrupt(_: int, __: int) -> None:
        raise KeyboardInterrupt

    on_plan, on_progress = (interrupt, ignore) if at == "plan" else (ignore, interrupt)
    with pytest.raises(KeyboardInterrupt):
        vacuum(str(path), on_plan, on_progress)
    assert path.stat().st_ino == inode
    assert content(path) == kept
    assert os.listdir(path.parent) == [path.name]


def test_a_killed_rewrite_changes_nothing_and_can_be_repeated(path: Path) -> None:
    open_database(sqlite_url(str(path))).close()
    as_an_earlier_release(path)
    kept = fill_and_delete(path)
    program = f"""
import os
from scriptservice.store.database.vacuum import vacuum
vacuum({str(path)!r}, lambda *plan: None, lambda *size: os.kill(os.getpid(), 9))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert content(path) == kept
    assert pragma(path, "auto_vacuum") == 0
    vacuum(str(path), ignore, ignore)
    assert content(path) == kept
    assert os.listdir(path.parent) == [path.name]


def test_a_disk_without_room_for_the_copy_is_refused() -> None:
    with small_disk(new_directory() / "disk", size=20 << 20) as disk:
        path = disk / "scriptservice.db"
        opened = open_database(sqlite_url(str(path)))
        with opened.writing.begin() as connection:
            set_output(connection, [24])
        opened.close()
        fill_until(disk, 4 << 20)
        plans: list[tuple[int, int]] = []
        with pytest.raises(ConfigurationError, match=r"the copy needs \d+ MiB of disk space"):
            vacuum(str(path), lambda *plan: plans.append(plan), ignore)
        assert plans[0][0] > plans[0][1]
        assert len(content(path)) == 24
        assert [name for name in os.listdir(disk) if COPY_SUFFIX in name] == []


def test_no_such_database(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such database"):
        vacuum(str(path), ignore, ignore)
    assert not path.exists()
