"""This suite runs on each kind of database."""

import pytest


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """What services store in."""
    return str(request.param)
