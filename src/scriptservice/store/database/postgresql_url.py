"""Parses the URL of a PostgreSQL database, and removes its secrets for messages and logs."""

from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from scriptservice.errors import ConfigurationError

_SHOWN: Final = {"host", "port", "user", "dbname"}
"""The libpq parameters that messages may show; other parameters may be or contain a secret."""


def parse_url(text: str) -> URL:
    """Return the parsed URL of a database.

    Raises:
        ConfigurationError: the URL is invalid. The message does not quote the URL, because any
            part of the URL may belong to a password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # ValueError: the port is not a number
        message = "cannot use the database URL: it is invalid; write postgresql://USER@HOST/NAME"
        raise ConfigurationError(message) from None
    if "@" in (url.host or ""):
        # A part of the password would be taken for the host's name, and appear in messages.
        message = "cannot use the database URL: write @ in its user or password as %40"
        raise ConfigurationError(message)
    return url


def redacted_url(url: URL) -> str:
    """Return the text of a URL with only the address, the database name and the user."""
    query = {name: value for name, value in url.query.items() if name in _SHOWN}
    shown = URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query)
    return shown.render_as_string()
