"""SQLite: one file, one writer that locks at the start of a transaction, pragmas by connection."""

import errno
import os
import sqlite3
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import NullPool, QueuePool

from scriptservice.errors import ConfigurationError
from scriptservice.store.database.engine import READERS, SCANNERS, Database

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=OFF",  # one writer inserts rows in order; checks would cost for each chunk
    "PRAGMA cache_size=-8192",  # 8 MiB for each of six connections at most
    "PRAGMA temp_store=MEMORY",
    "PRAGMA journal_size_limit=67108864",
)


def sqlite_url(path: str) -> str:
    """Return the URL of a SQLite file."""
    return f"sqlite:///{path}"


def connect_sqlite(path: str) -> Database:
    """Return the database in a file, which is created if it does not exist.

    Raises:
        ConfigurationError: the file cannot be opened or created.
    """
    try:
        _create_file(path)
    except OSError as error:
        message = f"cannot open database {path}: {error}"
        raise ConfigurationError(message) from error
    connect = {"check_same_thread": False, "timeout": 30, "isolation_level": None}
    url = sqlite_url(path)
    # The output of scripts is a parameter of statements, and errors would show parameters.
    shared: dict[str, Any] = {"connect_args": connect, "hide_parameters": True}
    writing = create_engine(url, poolclass=NullPool, **shared)
    reading = create_engine(url, poolclass=QueuePool, pool_size=READERS, max_overflow=0, **shared)
    scanning = create_engine(url, poolclass=QueuePool, pool_size=SCANNERS, max_overflow=0, **shared)
    for engine in (writing, reading, scanning):
        event.listen(engine, "connect", _set_pragmas)
    # The driver's own transaction handling would begin too late and, for reads, not at all.
    event.listen(writing, "begin", _begin("BEGIN IMMEDIATE"))
    for engine in (reading, scanning):
        event.listen(engine, "begin", _begin("BEGIN"))
    return Database(
        path,
        writing,
        reading,
        scanning,
        migrating=writing,
        auto_migrate=True,
        interrupt=sqlite3.Connection.interrupt,
    )


def _create_file(path: str) -> None:
    """Create the file if it does not exist; nobody else may read the output of scripts in it.

    An existing file is not opened here. This process may have a connection to it, and closing any
    descriptor of a file releases all locks that the process holds on it (POSIX). When another
    process then closed its connection, it would take itself for the last one and remove the
    write-ahead log that this process still uses: everything committed afterwards would be lost.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None
        os.chmod(path, 0o600)
    else:
        os.fchmod(descriptor, 0o600)  # whatever the umask
        os.close(descriptor)


def connect_sqlite_read_only(path: str) -> Database:
    """Return the database in an existing file, for reading only.

    Its connection stays open after the first use. Until it closes, the file always has a
    connection, so the next writer finds the write-ahead log and its index: on a full disk it could
    not create them.
    """
    address = f"file:{quote(path)}?mode=ro"
    engine = create_engine(
        "sqlite://",
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        creator=lambda: sqlite3.connect(address, uri=True, timeout=30, check_same_thread=False),
        hide_parameters=True,
    )
    return Database(path, engine, engine, engine, migrating=engine, auto_migrate=True)


def _set_pragmas(connection: sqlite3.Connection, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(statement: str) -> Callable[[Connection], None]:
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    return begin
