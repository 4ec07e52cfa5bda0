"""``scriptservice migrate`` and ``scriptservice backup``: an operator's work on the database."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from scriptservice.cli.exit_codes import INTERRUPTED, fail
from scriptservice.cli.extras import require_driver
from scriptservice.cli.progress_line import CopyProgress, mebibytes
from scriptservice.cli.settings_options import takes_settings
from scriptservice.errors import ConfigurationError
from scriptservice.settings import Settings


@takes_settings("config", "data_dir", "database")
def migrate(settings: Settings) -> None:
    """Migrate the database to the schema of this release.

    Servers may run meanwhile: the previous release works with the new schema.
    """
    from scriptservice.store.database.connect import connect_database
    from scriptservice.store.database.schema import migrate_schema

    require_driver(settings.database_url)
    with _interruptible():
        database = connect_database(settings.database_url)
        try:
            before, after = migrate_schema(database, _WaitMessage())
        finally:
            database.close()
        if before == after:
            print(f"{database.name} has schema {after} already")
        else:
            print(f"{database.name}: schema {before or 'none'} -> {after}")


@takes_settings("config", "data_dir", "database")
def backup(
    settings: Settings,
    file: Annotated[str, typer.Argument(metavar="FILE", help="the copy to write")],
) -> None:
    """Write a consistent copy of the SQLite database to FILE.

    The service may run meanwhile. For PostgreSQL, use pg_dump instead.
    """
    from scriptservice.store.database.backup import back_up

    url = settings.database_url
    if not url.startswith("sqlite:///"):
        message = "cannot back up a PostgreSQL database: use pg_dump (docs/operations.md)"
        raise ConfigurationError(message)
    path = os.path.abspath(file)
    with _interruptible(), CopyProgress() as progress:
        size = back_up(url.removeprefix("sqlite:///"), path, progress.show)
    print(f"{path}: {mebibytes(size)}")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Report Ctrl-C with one line. An interrupted migration or backup has changed nothing."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise fail("interrupted; nothing was changed", INTERRUPTED) from error


class _WaitMessage:
    """Prints why a migration waits, once for each migration."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, reason: str) -> None:
        if not self._said:
            self._said = True
            print(f"scriptservice: {reason}; waiting", file=sys.stderr, flush=True)
