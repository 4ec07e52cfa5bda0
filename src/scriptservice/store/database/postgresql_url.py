"""The URL of a PostgreSQL database: parsing it, and a form of it for messages and logs."""

from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from scriptservice.errors import ConfigurationError

_SHOWN: Final = {"host", "port", "user", "dbname"}
"""The libpq parameters that messages may show; any other may be or contain a secret."""


def parse_url(text: str) -> URL:
    """Return the parsed URL of a database.

    Raises:
        ConfigurationError: the URL is invalid. The message does not quote it, because a part of
            it may belong to a password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # ValueError: the port is not a number
        message = "cannot use the database URL: it is invalid; write postgresql://USER@HOST/NAME"
        raise ConfigurationError(message) from None
    if "@" in (url.host or ""):
        # A part of the password would become the host's name and appear in messages.
        message = "cannot use the database URL: write @ in its user or password as %40"
        raise ConfigurationError(message)
    return url


def redacted_url(url: URL) -> str:
    """Return a database's URL with only its address, database name and user."""
    query = {name: value for name, value in url.query.items() if name in _SHOWN}
    shown = URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query)
    return shown.render_as_string()
