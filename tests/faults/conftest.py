"""This suite runs on SQLite; some tests, and all with ``-m long``, run on PostgreSQL as well."""

import pytest

from support.service import MAINLY_SQLITE


@pytest.fixture(scope="module", params=MAINLY_SQLITE)
def database_kind(request: pytest.FixtureRequest) -> str:
    """The kind of database of the services."""
    return str(request.param)
