"""A database's schema: which it is, whether this release can use it, and bringing it up to date."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from scriptservice.errors import ConfigurationError, StoreUnavailableError, TablesInUseError
from scriptservice.store.database.engine import Database

SCHEMA = "0006"
"""The schema this release writes: the newest revision of ``migrations``."""

LOCK_MILLISECONDS = 2000
PAUSE_SECONDS = 1.0

_IN_USE = ("55P03", "40P01")
"""SQLSTATEs: a lock was not to be had in time, or two waited for each other."""


def schema_of(engine: Engine) -> str | None:
    """Return the revision of a database's schema, None for an empty database."""
    with engine.connect() as connection:
        return _schema_of(connection)


def _schema_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def prepare_schema(database: Database, *, migrate: bool) -> None:
    """See to it that a database has the schema of this release.

    Args:
        database: connected to as need be.
        migrate: change its schema where that is not done unasked.

    Raises:
        ConfigurationError: its schema is newer, or older and not to be changed; or it is none of
            ours.
        TablesInUseError: its tables are kept by somebody, and another try may do.
        StoreUnavailableError: it does not answer now.
    """
    with _said(database):
        with database.migrating.connect() as connection:
            if connection.dialect.name == "postgresql":
                from scriptservice.store.database.postgresql import refuse_other_encodings

                refuse_other_encodings(connection, database.name)
            current = _schema_of(connection)
        if _must_change(database, current, migrate=migrate):
            _upgrade(database)


def check_schema(database: Database, *, migrate: bool) -> None:
    """See whether `prepare_schema` could do its work, and change nothing.

    Args:
        database: of which only `Database.reading` is used.
        migrate: whether a schema may be changed that is not changed unasked.

    Raises:
        ConfigurationError: see `prepare_schema`.
        StoreUnavailableError: it does not answer now.
    """
    with _said(database), database.reading.connect() as connection:
        if connection.dialect.name == "postgresql":
            from scriptservice.store.database.postgresql import refuse_other_encodings

            refuse_other_encodings(connection, database.name)
        current = _schema_of(connection)
    _must_change(database, current, migrate=migrate)


def migrate_schema(database: Database, on_waiting: Callable[[str], None]) -> tuple[str | None, str]:
    """Bring a database's schema up to date, however long somebody keeps its tables.

    Args:
        database: connected to as need be.
        on_waiting: told why, each time that the tables cannot be had.

    Returns:
        The revisions before and after.

    Raises:
        ConfigurationError: its schema is newer than this release's.
        StoreUnavailableError: it does not answer now.
    """
    with _said(database):
        before = schema_of(database.migrating)
    while True:
        try:
            prepare_schema(database, migrate=True)
        except TablesInUseError as error:
            on_waiting(str(error))
            time.sleep(PAUSE_SECONDS)
        else:
            return before, SCHEMA


def _must_change(database: Database, current: str | None, *, migrate: bool) -> bool:
    """Return whether a schema is to be changed.

    Raises:
        ConfigurationError: it is newer, or older and not to be changed.
    """
    if current == SCHEMA:
        return False
    if current is not None:
        _refuse_newer(database, current)
    if not (migrate or database.migrates_itself):
        has = "it is empty" if current is None else f"its schema is {current}, not {SCHEMA}"
        message = (
            f"cannot use database {database.name}: {has}; "
            "run scriptservice migrate, or serve with --migrate"
        )
        raise ConfigurationError(message)
    return True


def _upgrade(database: Database) -> None:
    """Change the schema, or give up soon where somebody keeps the tables.

    Raises:
        TablesInUseError: somebody does; nothing is changed.
    """
    from scriptservice.store.database.migrations import upgrade

    try:
        with database.migrating.begin() as connection:
            if connection.dialect.name == "postgresql":
                _take_turns(connection)
            upgrade(connection)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in _IN_USE:
            raise
        message = (
            f"cannot change the schema of database {database.name} now: somebody keeps its "
            "tables, such as a pg_dump"
        )
        raise TablesInUseError(message) from error


def _take_turns(connection: Connection) -> None:
    """Let no one else migrate meanwhile, and let no one else wait for long.

    A lock that waits behind a dump makes every later reader and writer of the table wait as well.
    """
    from scriptservice.store.database.postgresql import MIGRATION_LOCK

    # Several servers may start at once; the second finds that there is nothing to do. Nobody
    # waits for whoever stands in line here.
    connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_MILLISECONDS}ms'")


def _refuse_newer(database: Database, current: str) -> None:
    from scriptservice.store.database.migrations import known_revisions

    if current not in known_revisions():
        message = (
            f"cannot open database {database.name}: its schema {current} is newer than this "
            f"release's {SCHEMA}: run the newer release, or restore a backup made by this one"
        )
        raise ConfigurationError(message)


@contextmanager
def _said(database: Database) -> Iterator[None]:
    """Say in our words why a database cannot be used."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        cause = " ".join(str(getattr(error, "orig", None) or error).split())
        message = f"cannot open database {database.name}: {cause}"
        if database.migrates_itself:
            raise ConfigurationError(message) from error
        # Started again, given its password, made writable: a server far away may come to itself.
        raise StoreUnavailableError(message) from error
