"""Opens the SQLite or PostgreSQL database that a URL names, and prepares its schema."""

from scriptservice.errors import ConfigurationError
from scriptservice.store.database.engine import Database


def connect_database(url: str) -> Database:
    """Return the database that a URL names. A PostgreSQL database is not contacted yet.

    Args:
        url: ``sqlite:///PATH``, or ``postgresql://USER@HOST/NAME`` with parameters of libpq.

    Raises:
        ConfigurationError: the URL has another form, or the SQLite file cannot be opened or
            created.
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
    """Return a database for reading only: the caller may use only its `Database.reading`.

    A SQLite file is opened in read-only mode. In this mode this process never creates or changes
    the file, and does not checkpoint it when the last connection closes. Another process that
    writes to the file may be about to do these things.

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
        migrate: whether to migrate the schema even if `Database.auto_migrate` is not set.

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
