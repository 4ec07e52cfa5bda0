"""Fixtures for the store's tests: a test that uses ``store`` runs on SQLite and PostgreSQL."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from scriptservice.store.database.connect import open_database
from scriptservice.store.database.engine import Database
from scriptservice.store.database.sqlite import sqlite_url
from scriptservice.store.database.tables import metadata
from support.postgres import Databases
from support.store import Store


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the newest schema; copying it is faster than a migration for each test."""
    path = tmp_path_factory.mktemp("migrated") / "scriptservice.db"
    open_database(sqlite_url(str(path))).close()
    return path


@pytest.fixture(scope="module")
def changes_schema() -> bool:
    """Whether tests of the module change the schema; such modules override this fixture."""
    return False


class SharedDatabase:
    """A PostgreSQL database that all tests use and that is emptied for each of them, for speed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = open_database(url)
        bare = make_url(url).set(drivername="postgresql")
        self._connection = psycopg.connect(
            bare.render_as_string(hide_password=False), autocommit=True
        )
        self._names = [table.name for table in metadata.sorted_tables]
        for name in self._names:
            # Statistics of one test's rows would change the query plans of another test.
            off = f"ALTER TABLE {name} SET (autovacuum_enabled = off)"
            self._connection.execute(off.encode())

    def empty(self) -> None:
        """Remove every row."""
        self._connection.execute(
            f"TRUNCATE {', '.join(self._names)} RESTART IDENTITY CASCADE".encode()
        )

    def close(self) -> None:
        self._connection.close()
        self.database.close()


@pytest.fixture(scope="session")
def shared_database(postgres: Databases) -> Iterator[SharedDatabase]:
    made = SharedDatabase(postgres.migrated())
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(
    request: pytest.FixtureRequest, tmp_path: Path, changes_schema: bool
) -> Iterator[str]:
    """The URL of a database without commands, for each kind of database."""
    if request.param == "sqlite":
        path = tmp_path / "scriptservice.db"
        shutil.copyfile(request.getfixturevalue("migrated"), path)
        yield sqlite_url(str(path))
        return
    if not changes_schema:
        shared: SharedDatabase = request.getfixturevalue("shared_database")
        shared.empty()
        yield shared.url
        return
    made: Databases = request.getfixturevalue("postgres")
    url = made.migrated()
    yield url
    made.drop(url)


@pytest.fixture
def database(
    database_url: str, changes_schema: bool, request: pytest.FixtureRequest
) -> Iterator[Database]:
    if database_url.startswith("postgresql") and not changes_schema:
        yield request.getfixturevalue("shared_database").database
        return
    opened = open_database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)
