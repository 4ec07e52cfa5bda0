"""A database as the store uses it: its SQLAlchemy engines, whichever kind of database it is.

`sqlite` and `postgresql` create it and handle what is peculiar to each. Everything else of the
store runs the same statements on both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError, DBAPIError

READERS = 4
"""Number of connections that read at the same time."""

SCANNERS = 1
"""Number of scans that work at the same time; time slices keep the wait for a turn short."""


@dataclass(frozen=True, slots=True)
class Database:
    """A database and its engines.

    Attributes:
        name: its name in messages: a path, or a URL without anything that may be secret.
        writing: one connection at a time, in transactions that exclude other writers. On
            PostgreSQL a connection holds the right to write until it ends.
        reading: up to `READERS` connections; each transaction sees one snapshot.
        scanning: the same for reads that may go through everything, with `SCANNERS` connections
            of their own, so that scans never keep other readers waiting.
        migrating: connections that change the schema while others read and write.
        auto_migrate: whether `connect.open_database` migrates the schema without being told to.
        read_timeout_seconds: time after which a read fails; None for no limit.
        write_lock_in_session: whether a connection holds the right to write, so that one that
            still works must be kept.
        interrupt: ends the statement that a driver's connection runs, on any thread; None if
            that needs another connection.
    """

    name: str
    writing: Engine
    reading: Engine
    scanning: Engine
    migrating: Engine
    auto_migrate: bool
    read_timeout_seconds: float | None = None
    write_lock_in_session: bool = False
    interrupt: Callable[[Any], None] | None = None

    def close(self) -> None:
        """Close all connections that are not in use."""
        for engine in (self.reading, self.scanning, self.writing, self.migrating):
            engine.dispose()


def is_full(error: DatabaseError) -> bool:
    """Return whether an error means that the disk under a SQLite file is full."""
    return "database or disk is full" in str(error.orig)


def is_disconnected(error: BaseException) -> bool:
    """Return whether an error means that the connection to the database is lost."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def probe_write(connection: Connection, items: list[None]) -> list[None]:
    """Test whether the database takes writes, without changing anything; a job of the writer."""
    from scriptservice.store.database.tables import hosts

    statement = hosts.update().where(hosts.c.name.is_(None)).values(version="")
    connection.execute(statement)
    return items


def write_unchanged(connection: Connection) -> None:
    """Make a transaction a writing one without changing data.

    Its commit then follows all earlier commits in the log, even if the log is replicated: when it
    returns, a standby has everything that an earlier, broken session committed.
    """
    from scriptservice.store.database.tables import hosts

    connection.execute(hosts.update().values(version=hosts.c.version))
