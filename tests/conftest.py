"""Fixtures for every suite."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings

from support.needs import NEEDS, PREFIX, needs_of, require
from support.postgres import Databases, databases
from support.service import Service

# No deadline, since the duration of an example depends on the machine. No database, since the
# checkout may belong to another user.
settings.register_profile("suite", deadline=None, database=None)
settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    """Register a marker for each need."""
    for name, need in NEEDS.items():
        config.addinivalue_line("markers", f"{PREFIX}{name}: {need.what}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that cannot run on this machine."""
    require(*needs_of(item))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print in one line how many tests were skipped, and what they need."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [str(each.longrepr[2]).removeprefix("Skipped: ") for each in skipped]
    counts = Counter(reason.partition(":")[0] for reason in reasons)
    if counts:
        named = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        terminalreporter.write_line(f"skipped: {len(skipped)} tests ({named})")


LONGEST_FIRST = ["browser", "faults", "client", "api", "cli", "keeper", "store", "unit"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the suites that take longest, so that all cores have work until the end."""
    items.sort(key=lambda item: LONGEST_FIRST.index(item.path.parent.name))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Databases]:
    """A real PostgreSQL server on which tests make databases."""
    with databases() as made:
        yield made


@pytest.fixture(scope="module")
def database_kind() -> str:
    """The database of services; suites that run on both kinds override this."""
    return "sqlite"


@pytest.fixture(scope="module")
def new_database(
    database_kind: str, request: pytest.FixtureRequest
) -> Iterator[Callable[[], str | None]]:
    """Returns a function that makes a database and returns its URL.

    The URL is None for SQLite, whose file is in the data directory.
    """
    urls: list[str] = []

    def make() -> str | None:
        if database_kind == "sqlite":
            return None
        urls.append(request.getfixturevalue("postgres").migrated())
        return urls[-1]

    yield make
    for url in urls:
        request.getfixturevalue("postgres").drop(url)


@pytest.fixture(scope="session")
def sqlite_service() -> Iterator[Service]:
    """A service on SQLite that many modules share."""
    shared = Service()
    yield shared
    shared.close()


@pytest.fixture(scope="session")
def postgresql_service(postgres: Databases) -> Iterator[Service]:
    """A service on PostgreSQL that many modules share."""
    shared = Service(database=postgres.migrated())
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def service(database_kind: str, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A service with default settings, idle at the start of each module.

    Many modules share it, so it contains commands, sessions and counts of earlier ones. A module
    for which that matters uses ``own_service``.
    """
    shared: Service = request.getfixturevalue(f"{database_kind}_service")
    if not shared.is_alive:
        shared.start()
    yield shared
    if shared.is_alive:
        shared.stop_all_commands()


@pytest.fixture(scope="module")
def own_service(new_database: Callable[[], str | None]) -> Iterator[Service]:
    """A service for the tests of one module, with default settings."""
    own = Service(database=new_database())
    try:
        yield own.start()
    finally:
        own.close()


@pytest.fixture
def make_service(
    new_database: Callable[[], str | None],
) -> Iterator[Callable[..., Service]]:
    """Returns a function that makes a service, not yet started; it is closed after the test."""
    made: list[Service] = []

    def make(*flags: str, **options: Any) -> Service:
        if "database" not in options:
            options["database"] = new_database()
        made.append(Service(options.pop("data_dir", None), *flags, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
