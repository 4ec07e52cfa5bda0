"""A database as the store uses it: its engines, whichever kind it is.

``sqlite`` and ``postgresql`` make it and know what is peculiar to each; everything else of the
store runs the same statements on both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError, DBAPIError

READERS = 4
"""How many connections read at once."""

SCANNERS = 1
"""How many scans work at once; the others wait their turn, which a time slice makes short."""


@dataclass(frozen=True, slots=True)
class Database:
    """A database, as the store uses it.

    Attributes:
        name: what messages call it: a path, or a URL without what may be secret.
        writing: one connection at a time, in transactions that exclude other writers. On
            PostgreSQL whoever is connected holds the right to write until that connection ends.
        reading: up to `READERS` connections, each transaction sees one moment.
        scanning: the same for reads that may go through everything: up to `SCANNERS` connections,
            so that these never keep others from reading.
        migrating: connections for changing the schema while others read and write.
        migrates_itself: whether `connect.open_database` changed its schema without being asked.
        patience_seconds: after which a reader is told that there is no answer; None for never.
        writes_by_session: whether the right to write is the connection's, so that one that still
            works is not to be given up.
        interrupt: ends the statement that a driver's connection runs, on any thread; None where
            that takes a connection of its own.
    """

    name: str
    writing: Engine
    reading: Engine
    scanning: Engine
    migrating: Engine
    migrates_itself: bool
    patience_seconds: float | None = None
    writes_by_session: bool = False
    interrupt: Callable[[Any], None] | None = None

    def close(self) -> None:
        """Close all connections but those that are in use."""
        for engine in (self.reading, self.scanning, self.writing, self.migrating):
            engine.dispose()


def is_full(error: DatabaseError) -> bool:
    """Whether a database error says that the disk under a SQLite file is full."""
    return "database or disk is full" in str(error.orig)


def is_disconnected(error: BaseException) -> bool:
    """Whether an error says that the connection to the database is gone."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def write_nothing(connection: Connection, items: list[None]) -> list[None]:
    """Find out whether a database takes writes, without changing anything; a writer's job."""
    from scriptservice.store.database.tables import hosts

    statement = hosts.update().where(hosts.c.name.is_(None)).values(version="")
    connection.execute(statement)
    return items


def write_something(connection: Connection) -> None:
    """Let a transaction be one that writes, though it changes nothing.

    Its commit is then behind all earlier ones in the log, also where that is replicated: what is
    on a standby when it returns includes what an earlier, broken session committed.
    """
    from scriptservice.store.database.tables import hosts

    connection.execute(hosts.update().values(version=hosts.c.version))
