"""The schema: what the migrations make is what the tables say; a newer one is refused."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from scriptservice.errors import ConfigurationError
from scriptservice.store.engine import SCHEMA, Database, open_database, schema_of, sqlite_url
from scriptservice.store.migrations import _config, known_revisions
from scriptservice.store.tables import metadata
from support.store import Store


def test_migrations_make_what_the_tables_say(database: Database) -> None:
    with database.writing.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []


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


@pytest.mark.parametrize("revision", sorted(known_revisions() - {SCHEMA}))
def test_a_database_of_an_earlier_release_is_brought_up_to_date(
    tmp_path: Path, revision: str
) -> None:
    url = sqlite_url(str(tmp_path / "earlier.db"))
    config = _config()
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.execute(text("INSERT INTO tokens VALUES ('kept', 'admin', x'00', 1)"))
    engine.dispose()
    database = open_database(url)
    assert schema_of(database.writing) == SCHEMA
    with database.writing.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert connection.execute(text("SELECT name FROM tokens")).scalar() == "kept"
    database.close()


@pytest.mark.parametrize("version", ["9999", "0000", ""])
def test_a_schema_that_is_not_known_is_refused_and_left_alone(
    database_url: str, version: str
) -> None:
    database = open_database(database_url)
    kept = Store(database).add()
    with database.writing.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": version})
    database.close()
    with pytest.raises(ConfigurationError, match=f"its schema {version} is newer"):
        open_database(database_url)
    # What was there is there still, once the version is put right.
    path = database_url.removeprefix("sqlite:///")
    _set_version(path, SCHEMA)
    again = open_database(database_url)
    assert Store(again).find(kept.id) == kept
    again.close()


def _set_version(path: str, version: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://x/y", "cannot use a postgresql database"),
        ("nonsense", "cannot use a nonsense database"),
        ("sqlite:////no/such/directory/x.db", "cannot open database /no/such/directory/x.db"),
        ("sqlite:///", "cannot open database"),
    ],
)
def test_what_cannot_be_opened(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        open_database(url)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(b"Dear Sir" * 1000)
    with pytest.raises(ConfigurationError, match="not a database"):
        open_database(sqlite_url(str(path)))
    assert path.read_bytes() == b"Dear Sir" * 1000


def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
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


def test_commits_are_durable(database: Database) -> None:
    for engine in (database.writing, database.reading):
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
