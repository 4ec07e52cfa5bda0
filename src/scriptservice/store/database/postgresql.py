"""Opens a PostgreSQL database, whose connections can break, and lets only one server write.

The right to write is an advisory lock of the writer's session. PostgreSQL releases the lock when
that session ends. Therefore, when a new connection gets the lock, no transaction of an earlier
connection is still open: each one was either committed or rolled back.
"""

import time
from collections.abc import Callable
from typing import Any, Final, LiteralString

import psycopg
from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.pool import NullPool, QueuePool

from scriptservice.errors import ConfigurationError, OtherWriterError
from scriptservice.store.database.engine import READERS, SCANNERS, Database
from scriptservice.store.database.postgresql_url import parse_url, redacted_url

READ_TIMEOUT_SECONDS = 10.0
LOCK_SECONDS = 5.0
_LOCK_STEP_SECONDS = 0.05

# The writer's lock is made from the object id of the table `commands`. So two servers compete for
# the lock exactly if they use the same tables, whatever their search paths are. The migration's
# lock is the same for the whole database, because the tables may not exist yet.
WRITER_LOCK: Final = (
    "(hashtext('scriptservice writer')::bigint << 32) | 'commands'::regclass::oid::bigint"
)
MIGRATION_LOCK: Final = "hashtext('scriptservice migration')::bigint"

_PARAMETERS = {
    "application_name": "scriptservice",
    "client_encoding": "utf8",
    "connect_timeout": "5",
    # With these values and `_SESSION`, client and database each detect within half a minute that
    # the other side has vanished.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}


_SESSION: tuple[LiteralString, ...] = (
    # The database uses the same limits as the client. If a writer's machine vanishes, the database
    # soon ends the writer's session, and so releases the lock.
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
    "SET tcp_user_timeout = 20000",
    # Whatever the default of the database is, each statement must see what was committed before it
    # began. With the snapshot of an earlier statement, the lock of a concurrency key is useless.
    "SET default_transaction_isolation = 'read committed'",
)


def connect_postgresql(url: str) -> Database:
    """Return the database that a URL names, without contacting it yet.

    Args:
        url: ``postgresql://USER@HOST/NAME``; its libpq parameters override the defaults of this
            module. If the URL names several hosts, the host that accepts writes is used.

    Raises:
        ConfigurationError: the URL is invalid.
    """
    address = parse_url(url)
    writing = create_engine(
        _with_parameters(address, "read-write"), poolclass=NullPool, hide_parameters=True
    )
    # Readers do not use a standby. A commit wakes readers, and they must see that commit, which a
    # standby may not have yet.
    primary = _with_parameters(address, "primary")
    reading, scanning = _reading_engine(primary, READERS), _reading_engine(primary, SCANNERS)
    migrating = create_engine(
        _with_parameters(address, "read-write"), poolclass=NullPool, hide_parameters=True
    )
    event.listen(writing, "connect", _take_writer_lock)
    for engine in (writing, reading, scanning, migrating):
        event.listen(engine, "handle_error", _remove_values)
    return Database(
        redacted_url(address),
        writing,
        reading,
        scanning,
        migrating,
        auto_migrate=False,
        read_timeout_seconds=READ_TIMEOUT_SECONDS,
        write_lock_in_session=True,
    )


def _reading_engine(url: URL, connections: int) -> Engine:
    """Return an engine of read-only connections; each transaction sees one snapshot.

    Args:
        url: URL of the database.
        connections: maximum number of connections.
    """
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        isolation_level="REPEATABLE READ",
        execution_options={"postgresql_readonly": True},
        hide_parameters=True,
    )
    event.listen(engine, "connect", _set_statement_timeout(READ_TIMEOUT_SECONDS))
    return engine


def _with_parameters(url: URL, session: str) -> URL:
    """Return a URL with the default parameters added, except those that the URL sets itself.

    Args:
        url: URL of the database.
        session: libpq's ``target_session_attrs``, which selects one of several hosts.
    """
    ours = {**_PARAMETERS, "target_session_attrs": session}
    missing = {name: value for name, value in ours.items() if name not in url.query}
    return url.set(drivername="postgresql+psycopg").update_query_dict(missing)


def _remove_values(context: ExceptionContext) -> None:
    """Remove the details from an error, because they quote values such as the output of scripts."""
    error, shown = context.original_exception, context.sqlalchemy_exception
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    if primary is None:
        return
    if shown is not None:
        shown.args = tuple(str(part).replace(str(error), primary) for part in shown.args)
    error.args = (primary,)


def refuse_other_encodings(connection: Connection, name: str) -> None:
    """Refuse a database whose encoding cannot represent every script.

    Raises:
        ConfigurationError: the encoding of the database is not UTF8.
    """
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        message = f"cannot use database {name}: its encoding is {encoding}, not UTF8"
        raise ConfigurationError(message)


def _take_writer_lock(connection: "psycopg.Connection[Any]", _: Any) -> None:
    """Take the writer's lock, and make commits durable.

    Raises:
        OtherWriterError: another session still holds the lock after `LOCK_SECONDS`.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    connection.autocommit = True
    # These settings are statements, because connection poolers refuse libpq's `options`.
    for setting in _SESSION:
        connection.execute(setting)
    while not _query_value(connection, f"SELECT pg_try_advisory_lock({WRITER_LOCK})"):
        if time.monotonic() > deadline:
            message = "cannot write: another server writes to this database"
            raise OtherWriterError(message)
        # If this server's previous connection broke, PostgreSQL may need a moment to end the old
        # session, which holds the lock.
        time.sleep(_LOCK_STEP_SECONDS)
    if _query_value(connection, "SELECT current_setting('synchronous_commit')") == "off":
        # By the default of this role, a commit does not wait for the disk. But when the server
        # answers 201, the command must be on disk.
        connection.execute("SET synchronous_commit = on")
    connection.autocommit = False


def _set_statement_timeout(seconds: float) -> Callable[["psycopg.Connection[Any]", Any], None]:
    """Return a listener that sets a connection's ``statement_timeout``."""

    def limit(connection: "psycopg.Connection[Any]", _: Any) -> None:
        connection.autocommit = True
        milliseconds = str(round(seconds * 1000))
        connection.execute("SELECT set_config('statement_timeout', %s, false)", [milliseconds])
        connection.autocommit = False

    return limit


def _query_value(connection: "psycopg.Connection[Any]", query: LiteralString) -> Any:
    row = connection.execute(query).fetchone()
    return None if row is None else row[0]
