"""The databases that the suite runs on: a test asks for ``store`` and runs on each of them."""

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
    """A SQLite file of the newest schema, to be copied: migrating each test's own would cost."""
    path = tmp_path_factory.mktemp("migrated") / "scriptservice.db"
    open_database(sqlite_url(str(path))).close()
    return path


@pytest.fixture(scope="module")
def changes_schema() -> bool:
    """Whether tests of the module change more than rows; those that do override this."""
    return False


class Kept:
    """A PostgreSQL database that is open and emptied for each test: to make one would cost."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = open_database(url)
        bare = make_url(url).set(drivername="postgresql")
        self._connection = psycopg.connect(
            bare.render_as_string(hide_password=False), autocommit=True
        )
        self._names = [table.name for table in metadata.sorted_tables]
        for name in self._names:
            # What it learned of one test's rows would change its plans in another.
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
def kept(postgres: Databases) -> Iterator[Kept]:
    made = Kept(postgres.migrated())
    yield made
    made.close()


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
        kept: Kept = request.getfixturevalue("kept")
        kept.empty()
        yield kept.url
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
        yield request.getfixturevalue("kept").database
        return
    opened = open_database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)
