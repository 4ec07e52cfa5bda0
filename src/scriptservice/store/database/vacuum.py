"""Rewrites a SQLite file without its free pages.

A file that an earlier release created cannot give pages back to the file system while it is in use.
The rewritten file can; see `free_pages`. The rewrite makes a copy of the data and then gives the
copy the name of the database. If the rewrite is interrupted, the name stands for either the
complete old file or the complete new file. No other process may use the database during the
rewrite.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator

from scriptservice.errors import ConfigurationError
from scriptservice.store.database.backup import sync_directory
from scriptservice.store.database.free_pages import INCREMENTAL

COPY_SUFFIX = ".vacuum"
"""The end of the name of the incomplete copy. If an interrupted rewrite has left such a file, the
next rewrite replaces it."""

_SPARE_BYTES = 1 << 20
_PROGRESS_INSTRUCTIONS = 20  # instructions of SQLite's virtual machine: about four copied rows
_REPORT_SECONDS = 0.1


def vacuum(
    path: str,
    on_plan: Callable[[int, int], None],
    on_progress: Callable[[int, int], None],
) -> tuple[int, int]:
    """Rewrite a database. If this fails, the database does not change.

    Args:
        path: path of the database.
        on_plan: called once before the copy, with two numbers of bytes: the disk space that the
            copy needs at most, and the free disk space.
        on_progress: called about ten times a second with the number of bytes copied so far and the
            estimated number of bytes of the whole copy.

    Returns:
        The sizes of the file before and after, in bytes.

    Raises:
        ConfigurationError: there is no such database, another process uses it, the disk has not
            enough space, or the database cannot be copied.
    """
    if not os.path.isfile(path):
        message = f"cannot vacuum {path}: there is no such database"
        raise ConfigurationError(message)
    path = os.path.realpath(path)
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as database:
            _exclude_others(database, path)
            before = os.path.getsize(path)
            _rewrite(database, path, on_plan, on_progress)
            return before, os.path.getsize(path)
    except (OSError, sqlite3.Error) as error:
        message = f"cannot vacuum {path}: {error}"
        raise ConfigurationError(message) from error


def _exclude_others(database: sqlite3.Connection, path: str) -> None:
    """Empty the write-ahead log, remove it, and lock the database until the connection closes.

    The log must be gone before the copy gets the database's name. Otherwise SQLite would apply the
    log of the old file to the new one.

    Raises:
        ConfigurationError: another process uses the database.
    """
    try:
        # This fails while any other connection to a database with a log is open.
        (mode,) = database.execute("PRAGMA journal_mode = DELETE").fetchone()
        database.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
        database.execute("BEGIN EXCLUSIVE")
        database.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
        mode = "wal"
    if mode != "delete":
        message = f"cannot vacuum {path}: another process uses the database; stop it first"
        raise ConfigurationError(message)


def _rewrite(
    database: sqlite3.Connection,
    path: str,
    on_plan: Callable[[int, int], None],
    on_progress: Callable[[int, int], None],
) -> None:
    data_bytes = _data_bytes(database)
    needed_bytes = data_bytes + _SPARE_BYTES
    disk = os.statvfs(os.path.dirname(path))
    free_bytes = disk.f_bavail * disk.f_frsize
    on_plan(needed_bytes, free_bytes)
    if free_bytes < needed_bytes:
        message = (
            f"cannot vacuum {path}: the copy needs {needed_bytes >> 20} MiB of disk space, and "
            f"{free_bytes >> 20} MiB are free"
        )
        raise ConfigurationError(message)
    copy = path + COPY_SUFFIX
    try:
        descriptor = _create_copy(copy, os.stat(path))
        try:
            with _reported(database, lambda: on_progress(os.fstat(descriptor).st_size, data_bytes)):
                database.execute("VACUUM INTO ?", (copy,))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(copy, path)
        sync_directory(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(copy)


def _data_bytes(database: sqlite3.Connection) -> int:
    """Return the approximate size of the database in bytes without its free pages.

    If the file cannot be made smaller in steps, this also sets the mode in which the copy can.
    """
    (mode,) = database.execute("PRAGMA auto_vacuum").fetchone()
    if mode != INCREMENTAL:
        # This changes nothing in the file, only in the copy.
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    (free,) = database.execute("PRAGMA freelist_count").fetchone()
    (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
    # A file that can be made smaller has one additional page with pointers for each 800 pages, or
    # for more than 800.
    return int((pages - free) * page_bytes * 801 // 800)


def _create_copy(path: str, original: os.stat_result) -> int:
    """Create the empty file for the copy and give it the database's owner; return a descriptor."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    if os.geteuid() == 0:
        os.fchown(descriptor, original.st_uid, original.st_gid)
    return descriptor


@contextlib.contextmanager
def _reported(database: sqlite3.Connection, report: Callable[[], None]) -> Iterator[None]:
    """Call ``report`` about ten times a second while a statement runs; Ctrl-C ends the statement.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed during the statement.
    """
    interrupted = False
    report_at = time.monotonic()

    def handle() -> int:
        nonlocal interrupted, report_at
        # If this function raised an exception, the module `sqlite3` would drop it, and report only
        # that the statement was ended.
        try:
            if time.monotonic() >= report_at:
                report()
                report_at = time.monotonic() + _REPORT_SECONDS
        except KeyboardInterrupt:
            interrupted = True
        return int(interrupted)

    database.set_progress_handler(handle, _PROGRESS_INSTRUCTIONS)
    try:
        yield
    except sqlite3.OperationalError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        database.set_progress_handler(None, 0)
