"""Reads the revision of a database's schema, checks it against this release, and migrates it."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from scriptservice.errors import ConfigurationError, StoreUnavailableError, TablesInUseError
from scriptservice.store.database.engine import Database

SCHEMA = "0011"
"""The schema of this release: the newest revision in ``migrations``."""

_COMPRESSED = "+zstd"
"""Stands behind the revision of a database that has compressed output.

A release that cannot read such output refuses the database, because it does not know a revision of
that name. See `mark_compressed_output`.
"""

LOCK_MILLISECONDS = 2000
PAUSE_SECONDS = 1.0

_IN_USE = ("55P03", "40P01")
"""SQLSTATEs of two errors: a lock was not available in time, and a deadlock was detected."""


def schema_of(engine: Engine) -> str | None:
    """Return the revision of a database's schema, or None for an empty database.

    The revision does not include the mark of `mark_compressed_output`.
    """
    with engine.connect() as connection:
        return _schema_of(connection)


def _schema_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.execute(
        text("SELECT version_num FROM alembic_version")
    ).scalar()
    return None if version is None else version.removesuffix(_COMPRESSED)


def mark_compressed_output(connection: Connection) -> None:
    """Mark that a database has compressed output, unless it is marked already.

    Call this in each transaction that stores compressed output: the mark must be in the database
    exactly if the output is, even if the database loses its last commits in a failover.

    Every release compares the stored revision with the revisions that it knows, at its start and
    before it takes over from another server, and refuses an unknown one. So from the first
    compressed chunk on, a release that would serve the compressed bytes refuses the database.
    """
    # The condition keeps all later calls from writing.
    connection.exec_driver_sql(
        f"UPDATE alembic_version SET version_num = version_num || '{_COMPRESSED}' "  # noqa: S608
        f"WHERE replace(version_num, '{_COMPRESSED}', '') = version_num"
    )


@contextmanager
def _without_mark(connection: Connection) -> Iterator[None]:
    """Take the mark away while Alembic, which knows revisions only, migrates the database."""
    if not inspect(connection).has_table("alembic_version"):
        yield
        return
    # On PostgreSQL a server may be running meanwhile. With this lock, the server marks the database
    # either before this statement or after the migration.
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE alembic_version IN EXCLUSIVE MODE"))
    version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    marked = version is not None and version.endswith(_COMPRESSED)
    if marked:
        without = text("UPDATE alembic_version SET version_num = replace(version_num, :mark, '')")
        connection.execute(without, {"mark": _COMPRESSED})
    yield
    if marked:
        mark_compressed_output(connection)


def prepare_schema(database: Database, *, migrate: bool) -> None:
    """Make sure that a database has the schema of this release; migrate the schema if necessary.

    Args:
        database: the database; its engine `Database.migrating` is used.
        migrate: whether to migrate the schema even if `Database.auto_migrate` is not set.

    Raises:
        ConfigurationError: the schema is newer than the schema of this release or is unknown; or
            the schema is older and may not be migrated.
        TablesInUseError: another client locks the tables; a later try may succeed.
        StoreUnavailableError: the database does not answer now.
    """
    with _translated_errors(database):
        with database.migrating.connect() as connection:
            if connection.dialect.name == "postgresql":
                from scriptservice.store.database.postgresql import refuse_other_encodings

                refuse_other_encodings(connection, database.name)
            current = _schema_of(connection)
        if _needs_migration(database, current, migrate=migrate):
            _upgrade(database)


def check_schema(database: Database, *, migrate: bool) -> None:
    """Check whether `prepare_schema` could do its work, without changing anything.

    Args:
        database: the database; only `Database.reading` is used.
        migrate: whether the schema may be migrated even if `Database.auto_migrate` is not set.

    Raises:
        ConfigurationError: see `prepare_schema`.
        StoreUnavailableError: the database does not answer now.
    """
    with _translated_errors(database), database.reading.connect() as connection:
        if connection.dialect.name == "postgresql":
            from scriptservice.store.database.postgresql import refuse_other_encodings

            refuse_other_encodings(connection, database.name)
        current = _schema_of(connection)
    _needs_migration(database, current, migrate=migrate)


def migrate_schema(database: Database, on_waiting: Callable[[str], None]) -> tuple[str | None, str]:
    """Migrate a database, and wait as long as another client locks its tables.

    Args:
        database: the database; its engine `Database.migrating` is used.
        on_waiting: called with the reason each time the tables are locked.

    Returns:
        The revisions before and after the migration; the first one is None if the database was
        empty.

    Raises:
        ConfigurationError: the schema is newer than the schema of this release.
        StoreUnavailableError: the database does not answer now.
    """
    with _translated_errors(database):
        before = schema_of(database.migrating)
    while True:
        try:
            prepare_schema(database, migrate=True)
        except TablesInUseError as error:
            on_waiting(str(error))
            time.sleep(PAUSE_SECONDS)
        else:
            return before, SCHEMA


def _needs_migration(database: Database, current: str | None, *, migrate: bool) -> bool:
    """Return whether a schema must be migrated.

    Raises:
        ConfigurationError: the schema is newer than the schema of this release; or the schema is
            older and may not be migrated.
    """
    if current == SCHEMA:
        return False
    if current is not None:
        _refuse_newer(database, current)
    if not (migrate or database.auto_migrate):
        has = "it is empty" if current is None else f"its schema is {current}, not {SCHEMA}"
        message = (
            f"cannot use database {database.name}: {has}; "
            "run scriptservice migrate, or serve with --migrate"
        )
        raise ConfigurationError(message)
    return True


def _upgrade(database: Database) -> None:
    """Migrate the schema, but give up soon if another client locks the tables.

    Raises:
        TablesInUseError: another client locks the tables; nothing was changed.
    """
    from scriptservice.store.database.migrations import upgrade

    try:
        with database.migrating.begin() as connection:
            if connection.dialect.name == "postgresql":
                _lock_for_migration(connection)
            with _without_mark(connection):
                upgrade(connection)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in _IN_USE:
            raise
        message = (
            f"cannot change the schema of database {database.name} now: another client locks its "
            "tables, such as a pg_dump"
        )
        raise TablesInUseError(message) from error


def _lock_for_migration(connection: Connection) -> None:
    """Take the migration's lock, and limit how long the migration waits for locks of tables.

    While the migration waits for a table that a dump has locked, every later reader and writer of
    that table waits behind the migration. So the migration may wait only for a short time.
    """
    from scriptservice.store.database.postgresql import MIGRATION_LOCK

    # Several servers may start at the same time. The first server migrates. The other servers wait
    # here, and then have nothing to migrate. This wait needs no time limit, because no reader or
    # writer waits for this lock.
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
def _translated_errors(database: Database) -> Iterator[None]:
    """Translate errors of the driver and the system into errors that say what to do next.

    Raises:
        ConfigurationError: a SQLite database cannot be used.
        StoreUnavailableError: a PostgreSQL database cannot be used now.
    """
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        cause = " ".join(str(getattr(error, "orig", None) or error).split())
        message = f"cannot open database {database.name}: {cause}"
        if database.auto_migrate:
            raise ConfigurationError(message) from error
        # A later try may succeed: the administrator of a PostgreSQL server may restart the server,
        # correct the password, or grant the right to write.
        raise StoreUnavailableError(message) from error
