"""Opens a database: its connections, its schema, and what to say when that cannot be."""

import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DatabaseError, SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool

from scriptservice.errors import ConfigurationError

SCHEMA = "0002"
"""The schema this release writes: the newest revision of ``migrations``."""

READERS = 4
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=OFF",  # rows go in order by one writer; checks would cost each chunk
    "PRAGMA cache_size=-8192",  # 8 MiB for each of five connections at most
    "PRAGMA temp_store=MEMORY",
    "PRAGMA journal_size_limit=67108864",
)


@dataclass(frozen=True, slots=True)
class Database:
    """An open database.

    Attributes:
        writing: one connection at a time, in transactions that lock at once.
        reading: up to `READERS` connections.
    """

    writing: Engine
    reading: Engine

    def close(self) -> None:
        """Close all connections."""
        self.reading.dispose()
        self.writing.dispose()


def sqlite_url(path: str) -> str:
    """Return the URL of a SQLite file."""
    return f"sqlite:///{path}"


def open_database(url: str) -> Database:
    """Open a database and bring its schema up to date.

    Args:
        url: ``sqlite:///PATH``.

    Raises:
        ConfigurationError: it cannot be opened, or its schema is newer than this release.
    """
    if not url.startswith("sqlite:///"):
        scheme = url.partition(":")[0]
        message = f"cannot use a {scheme} database: this release stores in SQLite (sqlite:///PATH)"
        raise ConfigurationError(message)
    path = url.removeprefix("sqlite:///")
    try:
        database = _open_sqlite(path)
        _migrate(database.writing)
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        cause = getattr(error, "orig", None) or error
        message = f"cannot open database {path}: {cause}"
        raise ConfigurationError(message) from error
    return database


def _open_sqlite(path: str) -> Database:
    # Nobody else may read what scripts print, whatever the umask.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    os.close(descriptor)
    connect = {"check_same_thread": False, "timeout": 30, "isolation_level": None}
    url = sqlite_url(path)
    # Errors name the statement and nothing of what was to be stored: they are logged.
    options = {"connect_args": connect, "hide_parameters": True}
    writing = create_engine(url, **options, poolclass=NullPool)
    reading = create_engine(url, **options, poolclass=QueuePool, pool_size=READERS, max_overflow=0)
    event.listen(writing, "connect", _set_pragmas)
    event.listen(reading, "connect", _set_pragmas)
    # Python's own transaction handling would begin too late and, for reads, not at all.
    event.listen(writing, "begin", _begin("BEGIN IMMEDIATE"))
    event.listen(reading, "begin", _begin("BEGIN"))
    return Database(writing, reading)


def _set_pragmas(connection: sqlite3.Connection, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(statement: str) -> Callable[[Connection], None]:
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    return begin


def schema_of(engine: Engine) -> str | None:
    """Return the revision of a database's schema, None for an empty database."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _migrate(engine: Engine) -> None:
    current = schema_of(engine)
    if current == SCHEMA:
        return
    from scriptservice.store.migrations import known_revisions, upgrade

    if current is not None and current not in known_revisions():
        message = (
            f"its schema {current} is newer than this release's {SCHEMA}: "
            "run the newer release, or restore a backup made by this one"
        )
        raise OSError(message)
    upgrade(engine)


def is_full(error: DatabaseError) -> bool:
    """Whether a database error says that the disk is full."""
    return "full" in str(error.orig)
