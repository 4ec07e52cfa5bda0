"""Gives free pages of a SQLite file back to the file system, in small steps.

Deleted rows leave free pages inside the file. New rows use these pages again, but the file does not
become smaller by itself. One step moves a few pages from the end of the file to free places and
cuts the file there. The writer calls this module while it has nothing else to do.
"""

import sqlite3
import time

from scriptservice.store.database.engine import LOCK_SECONDS

STEP_PAGES = 32
"""A step takes one to two milliseconds, most of which is one sync of the disk."""

ROUND_STEPS = 8
"""Number of steps before the write-ahead log is copied into the file. They write fewer pages than
those after which SQLite itself copies the log, which takes longer."""

PAUSE_SHARE = 9.0
"""Length of the pause after a step, as a multiple of the time that the step took. So a job that is
submitted meanwhile rarely meets a step."""

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
            # A reader, such as a backup, still needs the older state. Each further step would make
            # the log larger, so the next round has to wait.
            return RETRY_SECONDS
        return max(SHORTEST_PAUSE_SECONDS, PAUSE_SHARE * (time.monotonic() - began))


def _has_free_pages(connection: sqlite3.Connection) -> bool:
    (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return bool(mode == INCREMENTAL and free)


def _release(connection: sqlite3.Connection) -> bool:
    """Release pages in a transaction of its own; return False if another process is writing."""
    # If another process writes, the step is not worth a wait, because new jobs would wait too.
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        # The pragma does its work in many steps of the statement, and `execute` takes only one step
        # of a statement without columns. `executescript` takes all of them.
        connection.executescript(_STEP)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return False
        raise
    finally:
        connection.execute(f"PRAGMA busy_timeout = {LOCK_SECONDS * 1000}")
    return True


def _checkpoint(connection: sqlite3.Connection) -> bool:
    """Copy the write-ahead log into the file, which cuts the file; return whether all was copied.

    The checkpoint is passive: it waits for no reader, and no reader waits for it.
    """
    busy, logged, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return bool(not busy and logged == copied)
