"""The schema: migrations create the tables as they are declared; a newer schema is refused."""

import os
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE
from traceback import format_exception
from uuid import uuid4

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, Uuid, bindparam, inspect, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex

from bench.output_text import build_line, lines
from scriptservice.errors import ConfigurationError, StoreUnavailableError, TablesInUseError
from scriptservice.model import FINAL, Outcome, Status, Stream
from scriptservice.store.compression import ZSTD, Compressor
from scriptservice.store.database.connect import connect_database, open_database
from scriptservice.store.database.engine import Database
from scriptservice.store.database.migrations import _config, known_revisions
from scriptservice.store.database.postgresql import MIGRATION_LOCK
from scriptservice.store.database.schema import (
    SCHEMA,
    check_schema,
    mark_compressed_output,
    migrate_schema,
    prepare_schema,
    schema_of,
)
from scriptservice.store.database.sqlite import sqlite_url
from scriptservice.store.database.tables import commands, metadata
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import hosts as host_store
from scriptservice.store.queries import output as output_store
from scriptservice.store.queries import tokens as token_store
from scriptservice.store.queries.journal_changes import (
    Chunk,
    CommandChange,
    StatusConflictError,
)
from support.postgres import Databases
from support.service import PATIENCE_SECONDS, eventually
from support.store import Store


@pytest.fixture(scope="module")
def changes_schema() -> bool:
    return True


def test_migrations_create_the_declared_tables(database: Database) -> None:
    assert differences(database) == []


def differences(database: Database) -> list[object]:
    """Return the differences between a database's schema and the declared tables."""
    with database.migrating.connect() as connection, warnings.catch_warnings():
        # SQLAlchemy and Alembic cannot read such an index from SQLite; it is compared below.
        warnings.filterwarnings("ignore", ".* expression-based index 'commands_by_id_end'")
        warnings.filterwarnings("ignore", ".* expression-based index commands_by_id_end")
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        found = list(compare_metadata(context, metadata))
        if connection.dialect.name == "sqlite":
            query = text("SELECT sql FROM sqlite_master WHERE name = :name")
            made = connection.execute(query, {"name": BY_ID_END.name}).scalar_one()
            wanted = str(CreateIndex(BY_ID_END).compile(connection))
            assert made.lower().split() == wanted.lower().split()
        return found


def test_the_partial_indexes_have_their_conditions_on_both_databases(database: Database) -> None:
    """The declared tables state the conditions for SQLite only."""
    query = "SELECT name, sql FROM sqlite_master"
    if database.reading.dialect.name == "postgresql":
        query = "SELECT indexname, indexdef FROM pg_indexes"
    with database.reading.connect() as connection:
        made = {name: sql or "" for name, sql in connection.execute(text(query))}
    waiting = made["commands_waiting"].partition(" WHERE ")[2]
    assert "queued" in waiting
    assert "dispatched_to IS NULL" in waiting
    assert "deleted_at IS NOT NULL" in made["commands_deleted"].partition(" WHERE ")[2]
    for name, mark in (("counted", "IS NOT NULL"), ("waiting", "IS NULL")):
        condition = made[f"commands_{name}_by_key"].partition(" WHERE ")[2]
        assert "concurrency_key IS NOT NULL" in condition
        assert f"dispatched_to {mark}" in condition
        assert all(status in condition for status in FINAL)


def test_a_server_on_sqlite_does_not_load_the_code_for_postgresql(tmp_path: Path) -> None:
    """Only the very first start does, since the migrations need it."""
    url = sqlite_url(str(tmp_path / "migrated.db"))
    open_database(url).close()
    program = """
import sys
import scriptservice.server.composition
from scriptservice.store.database.connect import open_database
open_database(sys.argv[1]).close()
print([name for name in sys.modules if name.startswith("sqlalchemy.dialects.postgresql")])
"""
    words = [sys.executable, "-c", program, url]
    assert subprocess.run(words, check=True, stdout=PIPE).stdout == b"[]\n"


(BY_ID_END,) = (index for index in commands.indexes if index.name == "commands_by_id_end")


def test_a_new_database_has_the_newest_schema(database: Database) -> None:
    assert schema_of(database.writing) == SCHEMA
    assert max(known_revisions()) == SCHEMA


def test_opening_again_changes_nothing(database_url: str) -> None:
    first = open_database(database_url)
    kept = Store(first).add(labels={"a": "b"}, stdin="x")
    first.close()
    second = open_database(database_url)
    assert Store(second).find(kept.id) == kept
    second.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without tables."""
    if request.param == "sqlite":
        yield sqlite_url(str(tmp_path / "empty.db"))
        return
    made: Databases = request.getfixturevalue("postgres")
    url = made.empty()
    yield url
    made.drop(url)


_FIRST = (
    "1, :id, 'succeeded', 'old', 'echo hi', 'alpha', 0, 'admin', NULL, 5, 'keeper', NULL, "
    "NULL, 6, 7, 8, 0, NULL, NULL, 0, 2, 0, 0, 0.5, 0.25, 1024, NULL"
)
_SECOND = (
    "2, :other, 'queued', NULL, 'true', NULL, 3, 'admin', :id, 9, NULL, NULL, NULL, NULL, "
    "NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, NULL, NULL, NULL, NULL"
)
_FIRST_INPUT = (
    """1, '["/bin/bash"]', '["a"]', '{"K":"V"}', '{"team":"db"}', NULL, 60, NULL, 10, 2, """
    "NULL, 'discard', NULL, 5, 'echo hi', :bytes"
)
_SECOND_INPUT = (
    """2, '["/bin/sh"]', '[]', '{}', '{}', NULL, NULL, NULL, 10, 2, """
    "NULL, 'discard', NULL, 0, 'true', NULL"
)
EARLIER = {
    "tokens": ["'kept', 'admin', :bytes, 1"],
    "commands": [_FIRST, _SECOND],
    "inputs": [_FIRST_INPUT, _SECOND_INPUT],
    "labels": ["'team', 'db', 1"],
    "output": ["1, 0, 1, 0, 7, :bytes"],
    "hosts": ["'alpha', 'keeper', 'journal', 42, 'place', '0.1.0', 9"],
}
"""Rows as the first release stores them."""

ADDED = {
    ("inputs", "traceparent"),
    ("commands", "limits"),
    ("commands", "stored_bytes"),
    ("commands", "interactive"),
    ("commands", "pty_rows"),
    ("commands", "pty_cols"),
    ("output", "compression"),
    *(
        ("commands", name)
        for name in ("concurrency_key", "concurrency_limit", "when_busy", "stop_reason")
    ),
}
"""Columns that later releases have added."""


@pytest.mark.parametrize("revision", sorted(known_revisions() - {SCHEMA}))
def test_a_database_of_an_earlier_release_is_migrated(empty_url: str, revision: str) -> None:
    old = connect_database(empty_url)
    config = _config()
    first, second = uuid4(), uuid4()
    values = {"id": first, "other": second, "bytes": b"hello"}
    types = [bindparam("id", type_=Uuid), bindparam("other", type_=Uuid)]
    with old.migrating.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        for table, rows in EARLIER.items():
            for row in rows:
                columns = ", ".join(
                    column.name
                    for column in metadata.tables[table].columns
                    if (table, column.name) not in ADDED
                )
                statement = text(f"INSERT INTO {table} ({columns}) VALUES ({row})")
                mine = [each for each in types if f":{each.key}" in row]
                used = {name: value for name, value in values.items() if f":{name}" in row}
                connection.execute(statement.bindparams(*mine), used)
    old.close()
    database = open_database(empty_url, migrate=True)
    assert schema_of(database.migrating) == SCHEMA
    assert differences(database) == []
    store = Store(database)
    found = store.find(first)
    assert found.submission.env == {"K": "V"}
    assert found.submission.stdin == "hello"
    assert (found.submission.interactive, found.submission.pty) == (False, None)
    assert found.outcome.exit_code == 0
    assert store.find(second).rerun_of == first
    assert store.read(output_store.read, 1, Stream.MERGED, 0, 100) == b"hello"
    assert [host.journal_position for host in store.read(host_store.all_hosts)] == [42]
    assert [token.name for token in store.read(token_store.all_tokens)] == ["kept"]
    # From here on it works like any other database.
    assert store.write(command_store.Inserter(3), store.new())[0].number == 3
    database.close()


@pytest.mark.parametrize("version", ["9999", "0000", ""])
def test_an_unknown_schema_is_refused_and_left_alone(database_url: str, version: str) -> None:
    database = open_database(database_url)
    kept = Store(database).add()
    set_version(database, version)
    database.close()
    for migrate in (False, True):
        with pytest.raises(ConfigurationError, match=f"its schema {version} is newer"):
            open_database(database_url, migrate=migrate)
    # Its contents are unchanged, once the version is corrected.
    other = connect_database(database_url)
    set_version(other, SCHEMA)
    other.close()
    again = open_database(database_url)
    assert Store(again).find(kept.id) == kept
    again.close()


def set_version(database: Database, version: str) -> None:
    with database.migrating.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": version})


TEXT = lines(build_line, 20_000)


def stored_version(database: Database) -> str:
    """Return what every release compares with the revisions that it knows."""
    with database.reading.connect() as connection:
        return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


def older_release_refuses(database: Database) -> bool:
    """Return what a release decides that has this schema, and knows nothing of compression.

    Every release before this one decides so, with the revisions that it knows.
    """
    version = stored_version(database)
    return version != SCHEMA and version not in known_revisions()


def store_output(store: Store, data: bytes, compression: int | None = None) -> None:
    number = store.add(Status.RUNNING).number
    store.store_changes(chunks=[Chunk(number, 0, 1, 0, 0, data, compression)])


def test_the_first_compressed_chunk_raises_the_minimum_release(database_url: str) -> None:
    database = open_database(database_url)
    store = Store(database)
    frame = Compressor().compress(TEXT)
    assert frame is not None
    store_output(store, TEXT)
    assert not older_release_refuses(database)
    store_output(store, frame, ZSTD)
    assert older_release_refuses(database)
    marked = stored_version(database)
    store_output(store, frame, ZSTD)
    store_output(store, b"hello\n")
    assert stored_version(database) == marked
    # This release goes on with both.
    assert schema_of(database.migrating) == SCHEMA
    prepare_schema(database, migrate=False)
    check_schema(database, migrate=False)
    database.close()
    again = open_database(database_url)
    assert stored_version(again) == marked
    for number in (1, 2):
        read = Store(again).read(output_store.read, number, Stream.MERGED, 0, len(TEXT))
        assert read == TEXT
    again.close()


def test_a_transaction_that_fails_leaves_no_mark(database: Database) -> None:
    store = Store(database)
    number = store.add(Status.RUNNING).number
    frame = Compressor().compress(TEXT)
    assert frame is not None
    chunk = Chunk(number, 0, 1, 0, 0, frame, ZSTD)
    change = CommandChange(number, Status.QUEUED, Status.RUNNING, Outcome())
    with pytest.raises(StatusConflictError):
        store.store_changes(chunks=[chunk], changes=[change])
    assert store.count("output") == 0
    assert not older_release_refuses(database)


def test_a_migration_keeps_the_mark(empty_url: str) -> None:
    database = behind(empty_url)
    set_version(database, "0002+zstd")
    prepare_schema(database, migrate=True)
    assert stored_version(database) == f"{SCHEMA}+zstd"
    assert differences(database) == []
    database.close()


def test_a_migration_waits_for_a_running_server_that_marks_the_database(
    postgres: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "scriptservice.store.database.schema.LOCK_MILLISECONDS", int(PATIENCE_SECONDS * 1000)
    )
    url = postgres.empty()
    database = behind(url)
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")

    def migration_waits() -> bool:
        with database.migrating.connect() as look:
            return bool(look.execute(waits).scalar()) or migrating.done()

    with ThreadPoolExecutor(1) as pool:
        with database.migrating.begin() as server:
            mark_compressed_output(server)
            migrating = pool.submit(prepare_schema, database, migrate=True)
            eventually(migration_waits, "the migration to wait")
            assert not migrating.done()
        migrating.result(PATIENCE_SECONDS)
    assert stored_version(database) == f"{SCHEMA}+zstd"
    database.close()
    postgres.drop(url)


def test_postgresql_is_migrated_only_on_request(postgres: Databases) -> None:
    url = postgres.empty()
    with pytest.raises(ConfigurationError, match="it is empty; run scriptservice migrate"):
        open_database(url)
    opened = open_database(url, migrate=True)
    set_version(opened, "0002")
    opened.close()
    with pytest.raises(ConfigurationError, match=f"its schema is 0002, not {SCHEMA}"):
        open_database(url)
    postgres.drop(url)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_with_another_encoding_is_refused(postgres: Databases, encoding: str) -> None:
    name = f"other_{encoding.lower()}_{os.getpid()}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING {encoding} LOCALE 'C'")
    with pytest.raises(ConfigurationError, match=f"its encoding is {encoding}, not UTF8"):
        open_database(postgres.url(name), migrate=True)
    postgres.execute(f"DROP DATABASE {name}")


def test_several_servers_may_migrate_at_the_same_time(postgres: Databases) -> None:
    url = postgres.empty()
    with ThreadPoolExecutor(4) as pool:
        for opened in pool.map(lambda _: open_database(url, migrate=True), range(4)):
            assert schema_of(opened.migrating) == SCHEMA
            opened.close()
    postgres.drop(url)


def behind(url: str) -> Database:
    """Return a database that lacks the newest revision."""
    database = connect_database(url)
    config = _config()
    with database.migrating.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    return database


def test_a_migration_behind_a_dump_delays_no_reader_or_writer(
    postgres: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scriptservice.store.database.schema.LOCK_MILLISECONDS", 300)
    monkeypatch.setattr("scriptservice.store.database.schema.PAUSE_SECONDS", 0.1)
    url = postgres.empty()
    database = behind(url)
    present = inspect(database.migrating).get_table_names()
    waits: list[str] = []

    def waiting(reason: str) -> None:
        waits.append(reason)
        # While the dump runs and the migration waits, others read and write.
        with database.migrating.begin() as other:
            other.execute(text("SET LOCAL lock_timeout = '200ms'"))
            for table in present:
                other.execute(text(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE"))
        if len(waits) == 2:
            dump.rollback()

    with database.migrating.connect() as dump:
        tables = ", ".join(present)
        dump.execute(text(f"LOCK TABLE {tables} IN ACCESS SHARE MODE"))
        with pytest.raises(TablesInUseError, match="another client locks its tables"):
            open_database(url, migrate=True)
        before, after = migrate_schema(database, waiting)
    assert (before, after, len(waits)) == ("0002", SCHEMA, 2)
    assert schema_of(database.migrating) == SCHEMA
    assert differences(database) == []
    database.close()
    postgres.drop(url)


def test_migrate_says_that_it_waits(postgres: Databases) -> None:
    url = postgres.empty()
    database = behind(url)
    with database.migrating.connect() as dump:
        dump.execute(text("LOCK TABLE inputs IN ACCESS SHARE MODE"))
        verb = [sys.executable, "-m", "scriptservice.cli", "migrate", "--database", url]
        with subprocess.Popen(verb, stdout=PIPE, stderr=PIPE, text=True) as migrating:
            assert migrating.stderr is not None
            said = migrating.stderr.readline()
            dump.rollback()
            printed, more = migrating.communicate(timeout=PATIENCE_SECONDS)
    assert said.startswith(f"scriptservice: cannot change the schema of database {database.name} ")
    assert said.endswith("such as a pg_dump; waiting\n")
    assert (migrating.returncode, more) == (0, "")
    assert printed == f"{database.name}: schema 0002 -> {SCHEMA}\n"
    database.close()
    postgres.drop(url)


def test_the_second_migration_waits_for_the_first(
    postgres: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scriptservice.store.database.schema.LOCK_MILLISECONDS", 50)
    url = postgres.empty()
    # This must hold even if the server's own default would end the wait.
    postgres.execute(f"ALTER DATABASE {make_url(url).database} SET lock_timeout = '50ms'")
    database = behind(url)
    with ThreadPoolExecutor(1) as pool:
        with database.migrating.begin() as first:
            first.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            second = pool.submit(prepare_schema, database, migrate=True)

            def stands_in_line() -> bool:
                asked = text(
                    "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE "
                    "locktype = 'advisory' AND NOT granted "
                    "AND clock_timestamp() - query_start > '0.2s'"
                )
                # A new transaction for each try: an open one keeps seeing its first snapshot.
                with database.migrating.connect() as look:
                    return bool(look.execute(asked).scalar()) or second.done()

            eventually(stands_in_line, "the second to wait")
            assert not second.done()
        second.result(PATIENCE_SECONDS)
    assert schema_of(database.migrating) == SCHEMA
    database.close()
    postgres.drop(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://x/y", "cannot use a mysql database"),
        ("postgresql:x", "cannot use the database URL"),
        ("postgresql://u:hunter2@h:hunter2/db", "cannot use the database URL"),
        ("postgresql://u:p@hunter2@h/db", "cannot use the database URL: write @"),
        ("nonsense", "cannot use a nonsense database"),
        ("sqlite:////no/such/directory/x.db", "cannot open database /no/such/directory/x.db"),
        ("sqlite:///", "cannot open database"),
    ],
)
def test_databases_that_cannot_be_opened(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        open_database(url)
    assert "hunter2" not in "".join(format_exception(caught.value))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://u@h/db?password=hunter2", "postgresql://u@h/db"),
        ("postgresql://u:hunter2@h:5433/db", "postgresql://u@h:5433/db"),
        ("postgresql://u@h/db?sslpassword=hunter2&passfile=/x", "postgresql://u@h/db"),
        ("postgresql://u@h/db?PASSWORD=hunter2&options=-chunter2", "postgresql://u@h/db"),
        (
            "postgresql://u@/db?host=h1:5432&password=hunter2&host=h2:5433",
            "postgresql://u@/db?host=h1%3A5432&host=h2%3A5433",
        ),
    ],
)
def test_the_name_of_a_database_has_no_secrets(url: str, name: str) -> None:
    database = connect_database(url)
    database.close()
    assert database.name == name


@pytest.mark.parametrize("more", ["", "&no_such_parameter=x", "&connect_timeout=x", "&port=1"])
def test_errors_do_not_show_the_password(postgres: Databases, more: str) -> None:
    url = f"{postgres.url('no_such_database')}?password=hunter2{more}"
    with pytest.raises(StoreUnavailableError) as caught:
        open_database(url)
    assert "hunter2" not in "".join(format_exception(caught.value))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda url: url.set(port=1), "onnection"),
        (lambda url: url.set(database="no_such_database"), "does not exist"),
        (lambda url: url.set(username="nobody_here"), "nobody_here"),
    ],
)
def test_an_unreachable_server_is_unavailable_for_now(
    postgres: Databases, change: Callable[[URL], URL], message: str
) -> None:
    url = change(make_url(postgres.url("postgres")).set(password="secret"))
    with pytest.raises(StoreUnavailableError, match=message) as caught:
        open_database(url.render_as_string(hide_password=False))
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_a_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(b"Dear Sir" * 1000)
    with pytest.raises(ConfigurationError, match="not a database"):
        open_database(sqlite_url(str(path)))
    assert path.read_bytes() == b"Dear Sir" * 1000


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    before = os.umask(0)
    try:
        database = open_database(sqlite_url(str(path)))
        Store(database).add()
        for name in os.listdir(tmp_path):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        database.close()
    finally:
        os.umask(before)


def test_commits_to_a_file_are_durable(tmp_path: Path) -> None:
    database = open_database(sqlite_url(str(tmp_path / "x.db")))
    for engine in (database.writing, database.reading):
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    database.close()


@pytest.mark.parametrize(("default", "used"), [("off", "on"), ("remote_apply", "remote_apply")])
def test_commits_are_durable_whatever_the_servers_default(
    postgres: Databases, default: str, used: str
) -> None:
    url = postgres.migrated()
    postgres.execute(f"ALTER DATABASE {make_url(url).database} SET synchronous_commit = {default}")
    database = open_database(url)
    with database.writing.connect() as connection:
        shown = connection.exec_driver_sql("SHOW synchronous_commit").scalar()
    database.close()
    postgres.drop(url)
    assert shown == used


def test_readers_of_postgresql_cannot_write(postgres: Databases) -> None:
    url = postgres.migrated()
    database = open_database(url)
    with pytest.raises(DBAPIError, match="read-only"), database.reading.begin() as connection:
        connection.execute(text("DELETE FROM hosts"))
    database.close()
    postgres.drop(url)


def test_only_one_server_may_write_to_postgresql(
    postgres: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scriptservice.store.database.postgresql.LOCK_SECONDS", 0.2)
    url = postgres.migrated()
    first, second = open_database(url), open_database(url)
    with first.writing.connect() as connection:
        connection.execute(text("SELECT 1"))
        with pytest.raises(StoreUnavailableError, match="another server writes"):
            second.writing.connect()
    # The second server may write when the first is gone.
    with second.writing.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    first.close()
    second.close()
    postgres.drop(url)
