"""This suite runs on each kind of database."""

from collections.abc import Iterator

import pytest

from support.upgrades import Installation


@pytest.fixture
def installation() -> Iterator[Installation]:
    """A copy of the code, for a service with other constants."""
    made = Installation()
    yield made
    made.remove()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """What services store in."""
    return str(request.param)
