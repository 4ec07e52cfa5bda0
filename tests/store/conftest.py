"""The databases that the suite runs on: a test asks for ``store`` and runs on each of them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scriptservice.store.engine import Database, open_database
from scriptservice.store.sqlite import sqlite_url
from support.postgres import Databases
from support.store import Store


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file of the newest schema, to be copied: migrating each test's own would cost."""
    path = tmp_path_factory.mktemp("migrated") / "scriptservice.db"
    open_database(sqlite_url(str(path))).close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without commands; another kind is another parameter."""
    if request.param == "sqlite":
        path = tmp_path / "scriptservice.db"
        shutil.copyfile(request.getfixturevalue("migrated"), path)
        yield sqlite_url(str(path))
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
