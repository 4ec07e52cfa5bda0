"""The databases that the suite runs on: a test asks for ``store`` and runs on each of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scriptservice.store.engine import Database, open_database, sqlite_url
from support.store import Store


@pytest.fixture(params=["sqlite"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database; another kind is another parameter."""
    assert request.param == "sqlite"
    return sqlite_url(str(tmp_path / "scriptservice.db"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = open_database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)
