"""A database as the store uses it: SQLAlchemy engines for SQLite or for PostgreSQL.

The modules `sqlite` and `postgresql` create a `Database` and handle what is special about each
kind. All other modules of the store run the same statements on both kinds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError, DBAPIError

READERS = 4
"""Number of connections that read at the same time."""

LOCK_SECONDS = 30
"""How long a statement on SQLite waits while another process writes to the database."""

SCANNERS = 1
"""Number of scans that work at the same time. Further scans wait for their turn; time slices keep
this wait short."""


@dataclass(frozen=True, slots=True)
class Database:
    """A database and its engines.

    Attributes:
        name: name of the database in messages: a path, or a URL without any part that may be
            secret.
        writing: engine for the writer, which uses one connection at a time. While the writer's
            transaction is open, no other process can write. On PostgreSQL the connection holds the
            right to write until the connection ends.
        reading: engine for reads by key, with up to `READERS` connections; each transaction sees
            one snapshot.
        scanning: engine for reads that may go through the whole database, with up to `SCANNERS`
            connections, so that other readers never wait for scans; each transaction sees one
            snapshot.
        migrating: engine for changes of the schema.
        auto_migrate: whether `connect.open_database` migrates the schema even if its argument
            ``migrate`` is False.
        read_timeout_seconds: time after which a read fails; None for no limit.
        write_lock_in_session: whether the right to write belongs to the writer's connection. If
            so, the writer keeps a connection that still works after an error.
        interrupt: a function that takes a connection of the driver, and ends the statement that
            this connection is running. Any thread may call the function. None if only another
            connection could end the statement.
        release_free_pages: a function that takes the writer's connection of the driver, and makes a
            SQLite file a little smaller if it has free pages; see `FreePages.release_some`. None
            if the database does this itself.
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
    release_free_pages: Callable[[Any], float | None] | None = None

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
    """Test whether the database accepts writes, without changing any row; a job of the writer."""
    from scriptservice.store.database.tables import hosts

    statement = hosts.update().where(hosts.c.name.is_(None)).values(version="")
    connection.execute(statement)
    return items


def write_unchanged(connection: Connection) -> None:
    """Make the current transaction write to the log, without changing any value.

    In the database's log, the commit of this transaction then comes after all earlier commits. If
    a standby must confirm each commit, this commit returns only after the standby has it and all
    earlier commits. These include the commits of an earlier session whose connection broke.
    """
    from scriptservice.store.database.tables import hosts

    connection.execute(hosts.update().values(version=hosts.c.version))
