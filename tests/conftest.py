"""Fixtures that every suite may use."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from support.service import Service, new_directory

# No deadline: how long an example takes says more of the machine. No database: the checkout may
# be another user's.
settings.register_profile("suite", deadline=None, database=None)
settings.load_profile("suite")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service shared by the tests of a module, with the defaults of whoever runs them."""
    shared = Service()
    try:
        yield shared.start()
    finally:
        shared.close()


@pytest.fixture
def make_service() -> Iterator[Callable[..., Service]]:
    """Makes services that are ended after the test; they are not started yet."""
    made: list[Service] = []

    def make(*flags: str, **options: Any) -> Service:
        data_dir: Path = options.pop("data_dir", None) or new_directory() / "data"
        made.append(Service(data_dir, *flags, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
