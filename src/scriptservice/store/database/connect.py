"""Opens a database: which kind a URL means, and its schema."""

from scriptservice.errors import ConfigurationError
from scriptservice.store.database.engine import Database


def connect_database(url: str) -> Database:
    """Return a database, not yet looked at: nothing connects before it is used.

    Args:
        url: ``sqlite:///PATH`` or ``postgresql://USER@HOST/NAME``, with libpq's parameters.

    Raises:
        ConfigurationError: it is neither, or a SQLite file that cannot be had.
    """
    scheme = url.partition(":")[0]
    if scheme == "sqlite" and url.startswith("sqlite:///"):
        from scriptservice.store.database.sqlite import connect_sqlite

        return connect_sqlite(url.removeprefix("sqlite:///"))
    if scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        from scriptservice.store.database.postgresql import connect_postgresql

        return connect_postgresql(url)
    message = f"cannot use a {scheme} database: give sqlite:///PATH or postgresql://USER@HOST/NAME"
    raise ConfigurationError(message)


def connect_database_for_looking(url: str) -> Database:
    """Return a database of which only `Database.reading` is to be used.

    A SQLite file is opened such that it is never made, changed or, as the last to close it,
    checkpointed: its writer may be about to do that.

    Args:
        url: see `connect_database`.

    Raises:
        ConfigurationError: see `connect_database`.
    """
    if url.startswith("sqlite:///"):
        from scriptservice.store.database.sqlite import look_at_sqlite

        return look_at_sqlite(url.removeprefix("sqlite:///"))
    return connect_database(url)


def open_database(url: str, *, migrate: bool = False) -> Database:
    """Open a database and see to its schema.

    Args:
        url: see `connect_database`.
        migrate: bring the schema up to date where that is not done unasked.

    Raises:
        ConfigurationError: it cannot be used as it is, and waiting does not help.
        StoreUnavailableError: it does not answer now.
    """
    from scriptservice.store.database.schema import prepare_schema

    database = connect_database(url)
    try:
        prepare_schema(database, migrate=migrate)
    except BaseException:
        database.close()
        raise
    return database
