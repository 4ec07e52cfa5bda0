"""Makes a consistent copy of a SQLite database that is in use.

The copy is a snapshot: a reading transaction keeps the snapshot until the copy is complete.
Meanwhile writers can continue. Everything that they write stays in SQLite's write-ahead log, so the
log grows. The copy is made in small steps with pauses, so that the writers get their share of the
disk.
"""

import contextlib
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable

from scriptservice.errors import ConfigurationError

STEP_PAGES = 256
PAUSE_SHARE = 0.25
"""Length of the pause after a step, as a share of the time that the step took."""


def back_up(source: str, target: str, on_progress: Callable[[int, int], None]) -> int:
    """Copy a database into a file. If the copy fails, the target file does not change.

    Args:
        source: path of the database.
        target: path of the copy; an existing file is replaced when the copy is complete and synced.
        on_progress: called after each step with the number of bytes copied so far and the total
            number of bytes.

    Returns:
        The size of the copy in bytes.

    Raises:
        ConfigurationError: there is no such database, the target is that database, or the copy
            cannot be made.
    """
    if not os.path.isfile(source):
        message = f"cannot back up {source}: there is no such database"
        raise ConfigurationError(message)
    try:
        _refuse_itself(source, target)
        return _copy_whole(source, target, on_progress)
    except (OSError, sqlite3.Error) as error:
        message = f"cannot back up {source} to {target}: {error}"
        raise ConfigurationError(message) from error


def _refuse_itself(source: str, target: str) -> None:
    """Refuse a target that is the database or one of the files that SQLite keeps beside it.

    Raises:
        ConfigurationError: the target is one of these files, possibly through a link.
    """
    # If the source is a symbolic link, SQLite keeps its files beside the file that the link names.
    database = os.path.realpath(source)
    for suffix in ("", "-wal", "-shm", "-journal"):
        own = database + suffix
        same = os.path.realpath(target) == own  # `own` may not exist, but SQLite may create it
        with contextlib.suppress(FileNotFoundError):
            same = same or os.path.samefile(own, target)
        if same:
            message = f"cannot back up {source} to {target}: it is the database itself"
            raise ConfigurationError(message)


def _copy_whole(source: str, target: str, on_progress: Callable[[int, int], None]) -> int:
    directory, name = os.path.split(os.path.abspath(target))
    # The partial copy gets a unique name, because another backup to the same target may be running
    # or may have been killed. The copy contains the output of scripts, which no other user may
    # read. So its mode is set explicitly and does not depend on the umask.
    descriptor, partial = tempfile.mkstemp(".partial", f"{name}.", directory)
    try:
        try:
            os.fchmod(descriptor, 0o600)
            _copy(source, partial, on_progress)
            os.fsync(descriptor)
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        os.replace(partial, target)
        sync_directory(target)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(partial)
    return size


def _copy(source: str, target: str, on_progress: Callable[[int, int], None]) -> None:
    began = time.monotonic()

    def step_done(_: int, remaining: int, total: int) -> None:
        nonlocal began
        on_progress((total - remaining) * page_bytes, total * page_bytes)
        time.sleep((time.monotonic() - began) * PAUSE_SHARE)
        began = time.monotonic()

    with contextlib.ExitStack() as stack:
        read = stack.enter_context(
            contextlib.closing(sqlite3.connect(f"file:{_quoted(source)}?mode=ro", uri=True))
        )
        write = stack.enter_context(contextlib.closing(sqlite3.connect(target)))
        read.isolation_level = None
        # SQLite restarts a backup after each commit of another connection, unless the reading
        # connection holds a snapshot. The first SELECT of the transaction takes the snapshot.
        read.execute("BEGIN")
        read.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (page_bytes,) = read.execute("PRAGMA page_size").fetchone()
        write.execute("PRAGMA synchronous=OFF")  # the whole file is synced at the end
        read.backup(write, pages=STEP_PAGES, progress=step_done, sleep=0)


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(os.path.abspath(path))


def sync_directory(path: str) -> None:
    """Sync the directory of a file, so that a new name in it survives a power cut."""
    descriptor = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
