"""Checks that the package's extras are installed.

``pip install scriptservice`` installs the client and its verbs. The extra ``server`` adds the
service, ``postgresql`` adds the driver for PostgreSQL, and ``attach`` adds what the client needs to
attach to a command; see ``scriptservice.client.attachment``.
"""

import sys
from importlib.util import find_spec

from scriptservice.errors import ConfigurationError

SERVER_MODULES = (
    *(() if sys.version_info >= (3, 14) else ("backports",)),
    "alembic", "httptools", "prometheus_client", "pydantic", "pydantic_settings", "sqlalchemy",
    "starlette", "structlog", "uuid_utils", "uvicorn", "uvloop", "wsproto",
)  # fmt: skip
"""The modules of the extra ``server``."""


def require_server(verb: str) -> None:
    """Check that the extra ``server`` is installed.

    Args:
        verb: name of the verb that needs the service, for the message.

    Raises:
        ConfigurationError: a module is missing. The message names the command that installs the
            extra.
    """
    missing = next((name for name in SERVER_MODULES if find_spec(name) is None), None)
    if missing:
        message = (
            f"cannot {verb}: the service is not installed ({missing} is missing); "
            "install it with: pip install 'scriptservice[server]'"
        )
        raise ConfigurationError(message)


def require_driver(database_url: str) -> None:
    """Check that the driver for a database is installed.

    Args:
        database_url: the database's URL.

    Raises:
        ConfigurationError: the database is PostgreSQL, and psycopg is missing. The message names
            the command that installs psycopg.
    """
    if database_url.startswith("postgres") and find_spec("psycopg") is None:
        message = (
            "cannot use a PostgreSQL database: psycopg is not installed; "
            "install it with: pip install 'scriptservice[server,postgresql]'"
        )
        raise ConfigurationError(message)
