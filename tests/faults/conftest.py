"""This suite runs on SQLite; with ``-m long``, and where it says so, on PostgreSQL too."""

import pytest

from support.service import MAINLY_SQLITE


@pytest.fixture(scope="module", params=MAINLY_SQLITE)
def database_kind(request: pytest.FixtureRequest) -> str:
    """What services store in."""
    return str(request.param)
