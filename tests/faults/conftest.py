"""This suite runs on SQLite; with ``-m long``, and where it says so, on PostgreSQL too."""

import pytest


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)]
)
def database_kind(request: pytest.FixtureRequest) -> str:
    """What services store in."""
    return str(request.param)
