"""What is peculiar to PostgreSQL: connections that break, and that only one server may write.

The right to write is an advisory lock of the writer's session. It ends with that session, so a
new connection that has it knows that whatever an earlier one had sent is committed or is not.
"""

import time
from collections.abc import Callable
from typing import Any, Final, LiteralString

import psycopg
from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.pool import NullPool, QueuePool

from scriptservice.errors import ConfigurationError, OtherWriterError
from scriptservice.store.database.engine import READERS, SCANNERS, Database
from scriptservice.store.database.url import parse_address, shown_address

PATIENCE_SECONDS = 10.0
LOCK_SECONDS = 5.0
_LOCK_STEP_SECONDS = 0.05

# Of the tables, whatever the search path calls their schema; and of the database, where there may
# be no tables yet.
WRITER_LOCK: Final = (
    "(hashtext('scriptservice writer')::bigint << 32) | 'commands'::regclass::oid::bigint"
)
MIGRATION_LOCK: Final = "hashtext('scriptservice migration')::bigint"

_PARAMETERS = {
    "application_name": "scriptservice",
    "client_encoding": "utf8",
    "connect_timeout": "5",
    # A host that vanished is noticed within half a minute, whoever waits for whom.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}


_SESSION: tuple[LiteralString, ...] = (
    # The same seen from the server, so that a dead writer's session, and its lock, do not stay.
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
    "SET tcp_user_timeout = 20000",
)


def connect_postgresql(url: str) -> Database:
    """Return the database that a URL names; nothing connects yet.

    Args:
        url: ``postgresql://USER@HOST/NAME``; what it says of libpq's parameters counts. Where
            several hosts are named the one that takes writes is used.

    Raises:
        ConfigurationError: it is no URL.
    """
    given = parse_address(url)
    writing = create_engine(_with(given, "read-write"), poolclass=NullPool, hide_parameters=True)
    # Not a standby: who is woken by a commit reads what was committed.
    primary = _with(given, "primary")
    reading, scanning = _reading_engine(primary, READERS), _reading_engine(primary, SCANNERS)
    migrating = create_engine(_with(given, "read-write"), poolclass=NullPool, hide_parameters=True)
    event.listen(writing, "connect", _become_writer)
    for engine in (writing, reading, scanning, migrating):
        event.listen(engine, "handle_error", _name_no_values)
    return Database(
        shown_address(given),
        writing,
        reading,
        scanning,
        migrating,
        migrates_itself=False,
        patience_seconds=PATIENCE_SECONDS,
        writes_by_session=True,
    )


def _reading_engine(url: URL, connections: int) -> Engine:
    """Return up to so many connections that only read, each transaction at one moment."""
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        isolation_level="REPEATABLE READ",
        execution_options={"postgresql_readonly": True},
        hide_parameters=True,
    )
    event.listen(engine, "connect", _answer_in_time(PATIENCE_SECONDS))
    return engine


def _with(url: URL, session: str) -> URL:
    """Return a URL with our parameters, as far as it does not say otherwise itself."""
    ours = {**_PARAMETERS, "target_session_attrs": session}
    missing = {name: value for name, value in ours.items() if name not in url.query}
    return url.set(drivername="postgresql+psycopg").update_query_dict(missing)


def _name_no_values(context: ExceptionContext) -> None:
    """Take the details out of an error: they show values, which are what scripts print."""
    error, shown = context.original_exception, context.sqlalchemy_exception
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    if primary is None:
        return
    if shown is not None:
        shown.args = tuple(str(part).replace(str(error), primary) for part in shown.args)
    error.args = (primary,)


def refuse_other_encodings(connection: Connection, name: str) -> None:
    """Refuse a database that would not take every script.

    Raises:
        ConfigurationError: its encoding is not UTF8.
    """
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        message = f"cannot use database {name}: its encoding is {encoding}, not UTF8"
        raise ConfigurationError(message)


def _become_writer(connection: "psycopg.Connection[Any]", _: Any) -> None:
    """Take the right to write, and let commits be durable.

    Raises:
        OtherWriterError: another session has it and keeps it.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    connection.autocommit = True
    # Not as libpq's `options`: poolers refuse those.
    for setting in _SESSION:
        connection.execute(setting)
    while not _ask(connection, f"SELECT pg_try_advisory_lock({WRITER_LOCK})"):
        if time.monotonic() > deadline:
            message = "cannot write: another server writes to this database"
            raise OtherWriterError(message)
        # A session of ours that has just broken may take a moment to be gone.
        time.sleep(_LOCK_STEP_SECONDS)
    if _ask(connection, "SELECT current_setting('synchronous_commit')") == "off":
        # What is answered with 201 is on the disk; a default of the role does not change that.
        connection.execute("SET synchronous_commit = on")
    connection.autocommit = False


def _answer_in_time(seconds: float) -> Callable[["psycopg.Connection[Any]", Any], None]:
    """Return what lets a connection give up a statement for which nobody waits any more."""

    def limit(connection: "psycopg.Connection[Any]", _: Any) -> None:
        connection.autocommit = True
        milliseconds = str(round(seconds * 1000))
        connection.execute("SELECT set_config('statement_timeout', %s, false)", [milliseconds])
        connection.autocommit = False

    return limit


def _ask(connection: "psycopg.Connection[Any]", query: LiteralString) -> Any:
    row = connection.execute(query).fetchone()
    return None if row is None else row[0]
