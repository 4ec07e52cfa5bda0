"""Fixtures that every suite may use."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from support.postgres import Databases, databases
from support.service import Service, new_directory

# No deadline: how long an example takes says more of the machine. No database: the checkout may
# be another user's.
settings.register_profile("suite", deadline=None, database=None)
settings.load_profile("suite")


LONGEST_FIRST = ["browser", "faults", "client", "api", "cli", "keeper", "store", "unit"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the suites that take longest, so that no core waits for another at the end."""
    items.sort(key=lambda item: LONGEST_FIRST.index(item.path.parent.name))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Databases]:
    """A real PostgreSQL server, and the means to make databases there."""
    with databases() as made:
        yield made


@pytest.fixture(scope="module")
def database_kind() -> str:
    """What services store in; suites that run on both override this."""
    return "sqlite"


@pytest.fixture(scope="module")
def new_database(
    database_kind: str, request: pytest.FixtureRequest
) -> Iterator[Callable[[], str | None]]:
    """Makes databases and returns their URLs; none for SQLite, whose file is in the directory."""
    urls: list[str] = []

    def make() -> str | None:
        if database_kind == "sqlite":
            return None
        urls.append(request.getfixturevalue("postgres").migrated())
        return urls[-1]

    yield make
    for url in urls:
        request.getfixturevalue("postgres").drop(url)


@pytest.fixture(scope="module")
def service(new_database: Callable[[], str | None]) -> Iterator[Service]:
    """A service shared by the tests of a module, with the defaults of whoever runs them."""
    shared = Service(database=new_database())
    try:
        yield shared.start()
    finally:
        shared.close()


@pytest.fixture
def make_service(
    new_database: Callable[[], str | None],
) -> Iterator[Callable[..., Service]]:
    """Makes services that are ended after the test; they are not started yet."""
    made: list[Service] = []

    def make(*flags: str, **options: Any) -> Service:
        data_dir: Path = options.pop("data_dir", None) or new_directory() / "data"
        if "database" not in options:
            options["database"] = new_database()
        made.append(Service(data_dir, *flags, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
