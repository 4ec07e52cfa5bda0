"""Fixtures that every suite may use."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.service import Service, new_directory


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
