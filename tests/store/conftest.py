"""The databases that the suite runs on: a test asks for ``store`` and runs on each of them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from scriptservice.store.engine import Database, open_database
from scriptservice.store.sqlite import sqlite_url
from scriptservice.store.tables import metadata
from support.postgres import Databases
from support.store import Store


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file of the newest schema, to be copied: migrating each test's own would cost."""
    path = tmp_path_factory.mktemp("migrated") / "scriptservice.db"
    open_database(sqlite_url(str(path))).close()
    return path


@pytest.fixture(scope="module")
def changes_schema() -> bool:
    """Whether tests of the module change more than rows; those that do override this."""
    return False


@pytest.fixture(scope="session")
def kept_database(postgres: Databases) -> str:
    """The URL of a PostgreSQL database that is emptied for each test: making one would cost."""
    url = postgres.migrated()
    with psycopg.connect(direct(url)) as connection:
        for table in metadata.sorted_tables:
            # What it learned of one test's rows would change its plans in another.
            off = f"ALTER TABLE {table.name} SET (autovacuum_enabled = off)"
            connection.execute(off.encode())
    return url


def direct(url: str) -> str:
    """Return the URL as PostgreSQL's own programs take it."""
    bare = make_url(url).set(drivername="postgresql")
    return bare.render_as_string(hide_password=False)


def empty(url: str) -> None:
    """Remove every row of a database."""
    names = ", ".join(table.name for table in metadata.sorted_tables)
    with psycopg.connect(direct(url)) as connection:
        connection.execute(f"TRUNCATE {names} RESTART IDENTITY CASCADE".encode())


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(
    request: pytest.FixtureRequest, tmp_path: Path, changes_schema: bool
) -> Iterator[str]:
    """The URL of a database without commands; another kind is another parameter."""
    if request.param == "sqlite":
        path = tmp_path / "scriptservice.db"
        shutil.copyfile(request.getfixturevalue("migrated"), path)
        yield sqlite_url(str(path))
        return
    if not changes_schema:
        url = request.getfixturevalue("kept_database")
        empty(url)
        yield url
        return
    made: Databases = request.getfixturevalue("postgres")
    url = made.migrated()
    yield url
    made.drop(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = open_database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)
