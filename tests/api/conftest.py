"""This suite runs on both kinds of database."""

from collections.abc import Iterator

import pytest

from support.upgrades import Installation


@pytest.fixture
def installation() -> Iterator[Installation]:
    """A copy of the code in which a test may change constants."""
    made = Installation()
    yield made
    made.remove()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """The kind of database of the services."""
    return str(request.param)
