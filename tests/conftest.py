"""Fixtures that every suite may use."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from support.needs import NEEDS, PREFIX, needs_of, require
from support.postgres import Databases, databases
from support.service import Service, new_directory

# No deadline: how long an example takes says more of the machine. No database: the checkout may
# be another user's.
settings.register_profile("suite", deadline=None, database=None)
settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    """Let each need have a marker."""
    for name, need in NEEDS.items():
        config.addinivalue_line("markers", f"{PREFIX}{name}: {need.what}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what cannot run on this machine."""
    require(*needs_of(item))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line how many tests were left out, and what they need."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [str(each.longrepr[2]).removeprefix("Skipped: ") for each in skipped]
    counts = Counter(reason.partition(":")[0] for reason in reasons)
    if counts:
        named = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        terminalreporter.write_line(f"left out: {len(skipped)} tests ({named})")


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


@pytest.fixture(scope="session")
def sqlite_service() -> Iterator[Service]:
    """The service on SQLite that many modules share."""
    shared = Service()
    yield shared
    shared.close()


@pytest.fixture(scope="session")
def postgresql_service(postgres: Databases) -> Iterator[Service]:
    """The service on PostgreSQL that many modules share."""
    shared = Service(database=postgres.migrated())
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def service(database_kind: str, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A service with the defaults of whoever runs the tests; each module finds it idle.

    Many modules share it: it knows commands, sessions and counts of earlier ones. A module for
    which that matters takes ``own_service``.
    """
    shared: Service = request.getfixturevalue(f"{database_kind}_service")
    if not shared.is_alive:
        shared.start()
    yield shared
    if shared.is_alive:
        shared.end_all()


@pytest.fixture(scope="module")
def own_service(new_database: Callable[[], str | None]) -> Iterator[Service]:
    """A service for the tests of one module, with the defaults of whoever runs them."""
    own = Service(database=new_database())
    try:
        yield own.start()
    finally:
        own.close()


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
