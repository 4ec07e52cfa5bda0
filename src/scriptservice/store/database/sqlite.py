"""Opens a SQLite file, sets the pragmas of each connection, and begins the transactions.

A transaction of the writer takes the write lock when it begins, not at its first write.
"""

import errno
import os
import sqlite3
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import NullPool, QueuePool

from scriptservice.errors import ConfigurationError
from scriptservice.store.database.engine import LOCK_SECONDS, READERS, SCANNERS, Database
from scriptservice.store.database.free_pages import FreePages

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    # The writer inserts rows in the right order, so a check of foreign keys would find no error.
    # But it would take time for each chunk of output.
    "PRAGMA foreign_keys=OFF",
    "PRAGMA cache_size=-8192",  # 8 MiB for each of at most six connections
    "PRAGMA temp_store=MEMORY",
    "PRAGMA journal_size_limit=67108864",
)


def sqlite_url(path: str) -> str:
    """Return the URL of a SQLite file."""
    return f"sqlite:///{path}"


def connect_sqlite(path: str) -> Database:
    """Return the database in a file; create the file if it does not exist.

    Raises:
        ConfigurationError: the file cannot be opened or created.
    """
    try:
        _create_file(path)
    except OSError as error:
        message = f"cannot open database {path}: {error}"
        raise ConfigurationError(message) from error
    connect = {"check_same_thread": False, "timeout": LOCK_SECONDS, "isolation_level": None}
    url = sqlite_url(path)
    # Errors must not show the parameters of a statement, which may be the output of scripts.
    shared: dict[str, Any] = {"connect_args": connect, "hide_parameters": True}
    writing = create_engine(url, poolclass=NullPool, **shared)
    reading = create_engine(url, poolclass=QueuePool, pool_size=READERS, max_overflow=0, **shared)
    scanning = create_engine(url, poolclass=QueuePool, pool_size=SCANNERS, max_overflow=0, **shared)
    for engine in (writing, reading, scanning):
        event.listen(engine, "connect", _set_pragmas)
    # By default the driver begins a transaction only before the first write, so a series of reads
    # would have no transaction. These listeners begin each transaction explicitly.
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
        release_free_pages=FreePages().release_some,
    )


def _create_file(path: str) -> None:
    """Create the file if it does not exist, and let only its owner read and write it.

    The file contains the output of scripts, which other users must not read.

    This function does not open an existing file, because this process may have a connection to that
    file. When a process closes any descriptor of a file, POSIX releases all locks that the process
    holds on the file. If another process then closed its own connection, it would find no locks. It
    would conclude that nobody else uses the file, and remove the write-ahead log. But this process
    would still write its commits to the removed log, and these commits would be lost.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None
        os.chmod(path, 0o600)
    else:
        os.fchmod(descriptor, 0o600)  # The mode must not depend on the umask.
        os.close(descriptor)


def connect_sqlite_read_only(path: str) -> Database:
    """Return the database in an existing file, for reading only.

    The connection stays open after its first use. SQLite removes the write-ahead log and the log's
    index when the last connection to the database closes. This connection prevents that, so the
    next writer finds both files. On a full disk the writer could not create them.
    """
    address = f"file:{quote(path)}?mode=ro"
    engine = create_engine(
        "sqlite://",
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        creator=lambda: sqlite3.connect(
            address, uri=True, timeout=LOCK_SECONDS, check_same_thread=False
        ),
        hide_parameters=True,
    )
    return Database(path, engine, engine, engine, migrating=engine, auto_migrate=True)


def _set_pragmas(connection: sqlite3.Connection, _: Any) -> None:
    cursor = connection.cursor()
    (pages,) = cursor.execute("PRAGMA page_count").fetchone()
    if not pages:
        # A file can be made smaller later only if this pragma runs before the first write to the
        # new file. To set the journal's mode is already a write, so this pragma comes first. In a
        # file with pages, the pragma would take the write lock.
        cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(statement: str) -> Callable[[Connection], None]:
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    return begin
