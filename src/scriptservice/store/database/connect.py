"""Opens the database that a URL names, SQLite or PostgreSQL, and prepares its schema."""

from scriptservice.errors import ConfigurationError
from scriptservice.store.database.engine import Database


def connect_database(url: str) -> Database:
    """Return a database; it is not contacted before its first use.

    Args:
        url: ``sqlite:///PATH``, or ``postgresql://USER@HOST/NAME`` with parameters of libpq.

    Raises:
        ConfigurationError: the URL is neither, or the SQLite file cannot be opened or created.
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


def connect_database_read_only(url: str) -> Database:
    """Return a database of which only `Database.reading` may be used.

    A SQLite file is opened such that it is never created, changed or, when the last connection
    closes, checkpointed: its writer may be about to do that.

    Args:
        url: see `connect_database`.

    Raises:
        ConfigurationError: see `connect_database`.
    """
    if url.startswith("sqlite:///"):
        from scriptservice.store.database.sqlite import connect_sqlite_read_only

        return connect_sqlite_read_only(url.removeprefix("sqlite:///"))
    return connect_database(url)


def open_database(url: str, *, migrate: bool = False) -> Database:
    """Open a database and prepare its schema.

    Args:
        url: see `connect_database`.
        migrate: migrate the schema even where that is not automatic.

    Raises:
        ConfigurationError: the database cannot be used as it is, and waiting does not help.
        StoreUnavailableError: the database does not answer now.
    """
    from scriptservice.store.database.schema import prepare_schema

    database = connect_database(url)
    try:
        prepare_schema(database, migrate=migrate)
    except BaseException:
        database.close()
        raise
    return database
