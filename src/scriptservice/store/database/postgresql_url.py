"""The URL of a PostgreSQL database: read, and as messages and logs may show it."""

from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from scriptservice.errors import ConfigurationError

_SHOWN: Final = {"host", "port", "user", "dbname"}
"""Which of libpq's parameters say where it is; any other may be a secret, or have one in it."""


def parse_address(text: str) -> URL:
    """Return a database's URL.

    Raises:
        ConfigurationError: it is none. What is wrong is not quoted: it may be part of a password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        message = "cannot use the database URL: it is none; postgresql://USER@HOST/NAME is"
        raise ConfigurationError(message) from None
    if "@" in (url.host or ""):
        # Half a password would be taken for a host, and shown as one.
        message = "cannot use the database URL: write @ in its user or password as %40"
        raise ConfigurationError(message)
    return url


def shown_address(url: URL) -> str:
    """Return a database's URL with no more than who connects, and to what."""
    query = {name: value for name, value in url.query.items() if name in _SHOWN}
    shown = URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query)
    return shown.render_as_string()
