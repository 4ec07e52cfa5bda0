"""``scriptservice migrate``, ``backup`` and ``vacuum``: an operator's work on the database."""

import fcntl
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


@takes_settings("config", "data_dir", "database")
def vacuum(settings: Settings) -> None:
    """Make the SQLite database smaller: rewrite it without the space of deleted commands.

    The service must be stopped. A database that this release created becomes smaller by itself
    while the service runs. A database of an earlier release does so after it was rewritten once.
    If the rewrite is interrupted, the database is unchanged.
    """
    from scriptservice.store.database.vacuum import vacuum as rewrite

    url = settings.database_url
    if not url.startswith("sqlite:///"):
        message = "cannot vacuum a PostgreSQL database: its autovacuum does that (or VACUUM FULL)"
        raise ConfigurationError(message)
    path = os.path.abspath(url.removeprefix("sqlite:///"))
    with _stopped_service(settings.data_dir), _interruptible(), CopyProgress() as progress:
        before, after = rewrite(path, _print_plan, progress.show)
    print(f"{path}: {mebibytes(before)} -> {mebibytes(after)}")


def _print_plan(needed_bytes: int, free_bytes: int) -> None:
    plan = f"needs up to {mebibytes(needed_bytes)} of disk space; {mebibytes(free_bytes)} are free"
    print(f"scriptservice: {plan}", file=sys.stderr, flush=True)


@contextmanager
def _stopped_service(data_dir: str) -> Iterator[None]:
    """Hold a data directory's lock, so that no service can start meanwhile.

    Raises:
        ConfigurationError: a service runs, or the lock's file cannot be opened.
    """
    try:
        lock = os.open(os.path.join(data_dir, "lock"), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        lock = None  # no service was ever started there
    except OSError as error:
        message = f"cannot use data directory {data_dir}: {error.strerror}"
        raise ConfigurationError(message) from error
    if lock is None:
        yield
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(lock, 20, 0).decode(errors="replace").strip()
            message = f"cannot vacuum: process {owner} uses {data_dir}; stop the service first"
            raise ConfigurationError(message) from error
        # If a keeper starts meanwhile, it reads this id for its message about the locked directory.
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(lock)


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
