"""Which extras of the package are installed: the client alone needs none of them.

``pip install scriptservice`` brings the client and its verbs. The service is the extra ``server``,
the driver for PostgreSQL the extra ``postgresql``.
"""

from importlib.util import find_spec

from scriptservice.errors import ConfigurationError

SERVER_MODULES = (
    "alembic", "httptools", "prometheus_client", "pydantic", "pydantic_settings", "sqlalchemy",
    "starlette", "structlog", "uuid_utils", "uvicorn", "uvloop",
)  # fmt: skip
"""The modules of the extra ``server``."""


def require_server(verb: str) -> None:
    """Check that the service is installed, and not only the client.

    Args:
        verb: what needs the service.

    Raises:
        ConfigurationError: a module is missing. The message names the command that installs it.
    """
    missing = next((name for name in SERVER_MODULES if find_spec(name) is None), None)
    if missing:
        message = (
            f"cannot {verb}: the service is not installed ({missing} is missing); "
            "install it with: pip install 'scriptservice[server]'"
        )
        raise ConfigurationError(message)


def require_driver(database_url: str) -> None:
    """Check that the driver of a database is installed.

    Args:
        database_url: the database's URL.

    Raises:
        ConfigurationError: the URL is PostgreSQL's, and psycopg is missing. The message names the
            command that installs it.
    """
    if database_url.startswith("postgres") and find_spec("psycopg") is None:
        message = (
            "cannot use a PostgreSQL database: psycopg is not installed; "
            "install it with: pip install 'scriptservice[server,postgresql]'"
        )
        raise ConfigurationError(message)
