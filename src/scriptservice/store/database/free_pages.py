"""Gives free pages of a SQLite file back to the file system, in small steps.

Deleted rows leave free pages inside the file. New rows use these pages again, but the file does not
become smaller by itself. One step moves a few pages from the end of the file to free places and
cuts the file there. The writer calls this module while it has nothing else to do.
"""

import sqlite3
import time

from scriptservice.store.database.engine import LOCK_SECONDS

STEP_PAGES = 32
"""Number of pages that a step moves. A step takes one to two milliseconds; most of this time is one
sync of the disk."""

ROUND_STEPS = 8
"""Number of steps after which this module copies the write-ahead log into the file. SQLite itself
would copy the log only after more pages, and that copy would take longer."""

PAUSE_SHARE = 9.0
"""Length of the pause after a step, as a multiple of the time that the step took. The pause is long
so that a job rarely has to wait for a step."""

SHORTEST_PAUSE_SECONDS = 0.005
RETRY_SECONDS = 1.0
INCREMENTAL = 2
"""The value of ``PRAGMA auto_vacuum`` for a file that can be made smaller in steps."""

_STEP = f"PRAGMA incremental_vacuum({STEP_PAGES})"


class FreePages:
    """Makes one SQLite file smaller, step by step."""

    def __init__(self) -> None:
        self._steps = 0

    def release_some(self, connection: sqlite3.Connection) -> float | None:
        """Do one step, which takes a bounded time.

        Args:
            connection: a connection without an open transaction.

        Returns:
            The time in seconds after which the next step should follow, None if there is nothing to
            do.

        Raises:
            sqlite3.Error: the database cannot be written.
        """
        began = time.monotonic()
        if self._steps < ROUND_STEPS and _has_free_pages(connection):
            if not _release(connection):
                return RETRY_SECONDS
            self._steps += 1
        elif self._steps == 0:
            return None
        elif _checkpoint(connection):
            self._steps = 0
        else:
            # A reader, such as a backup, still needs the older state, so the log could not be
            # copied completely. Each further step would make the log larger. So wait.
            return RETRY_SECONDS
        return max(SHORTEST_PAUSE_SECONDS, PAUSE_SHARE * (time.monotonic() - began))


def _has_free_pages(connection: sqlite3.Connection) -> bool:
    (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return bool(mode == INCREMENTAL and free)


def _release(connection: sqlite3.Connection) -> bool:
    """Release pages in a transaction of its own; return False if another process is writing."""
    # Do not wait for another process that writes: new jobs of the writer would wait too.
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        # SQLite needs many calls of `sqlite3_step` for this pragma. For a statement without
        # columns, `execute` makes only one such call. `executescript` makes all of them.
        connection.executescript(_STEP)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return False
        raise
    finally:
        connection.execute(f"PRAGMA busy_timeout = {LOCK_SECONDS * 1000}")
    return True


def _checkpoint(connection: sqlite3.Connection) -> bool:
    """Copy the write-ahead log into the file; return whether the whole log was copied.

    The steps write to the log, so the file becomes shorter only with this copy. The checkpoint is
    passive: it waits for no reader, and no reader waits for it.
    """
    busy, logged, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return bool(not busy and logged == copied)
