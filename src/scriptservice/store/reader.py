"""The threads that read the database: a pool for reads by key, and one thread for scans.

The time of a read by key does not depend on the size of the database. A scan may go through the
whole database. Scans have their own thread and connection, so a read by key never waits for a scan.
Each scan waits for its turn and works for a bounded time.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from scriptservice.errors import StoreUnavailableError
from scriptservice.store.database.engine import READERS, SCANNERS, Database, is_disconnected
from scriptservice.store.queries.listing.time_slice import TimeSlice

P = ParamSpec("P")
Result = TypeVar("Result")

SCAN_SECONDS = 0.25
"""The longest time that a scan works before it returns what it has found."""

CROWDED_SCAN_SECONDS = 0.05
"""The shortest time slice of a scan. The slice is `SCAN_SECONDS` divided by the number of scans
that wait or work, so that no scan waits long for its turn. But the slice is never shorter than this
constant.
"""


SCAN_REST_RATIO = 1.0
"""How many seconds a scan rests for each second of work. At 1.0 a scan uses at most half a core."""

SCAN_NICENESS = 5
"""Number that is added to the nice value of the scan's thread. On busy cores this thread then gets
a third of the time that another thread gets.

A larger value would slow down the event loop. When scripts use all cores, the scan's thread may
have to wait for a core while it holds the interpreter's lock. The event loop then waits for the
lock.
"""


class Reader:
    """Runs the reading functions of ``store.queries``.

    Args:
        database: the database to read.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._timeout_seconds = database.read_timeout_seconds
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._scanners = ThreadPoolExecutor(
            SCANNERS, thread_name_prefix="scanner", initializer=_lower_priority
        )
        self._scanning = asyncio.Semaphore(SCANNERS)
        self._wanted_scans = 0
        self._slices: set[TimeSlice] = set()

    async def run(
        self,
        function: Callable[Concatenate[Connection, P], Result],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Result:
        """Call a function with a connection, in a transaction that sees one consistent snapshot.

        Args:
            function: called on a reader's thread with the connection and the other arguments.
            args: further arguments of the function.
            kwargs: keyword arguments of the function.

        Returns:
            The result of the function.

        Raises:
            StoreUnavailableError: the database does not answer.
            SQLAlchemyError: the statement is wrong, which is a bug of this program.
        """
        engine = self._database.reading
        work = asyncio.get_running_loop().run_in_executor(
            self._readers,
            lambda: _read(engine, lambda connection: function(connection, *args, **kwargs)),
        )
        return await self._answered(work)

    async def scan(
        self,
        function: Callable[Concatenate[Connection, TimeSlice, P], Result],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Result:
        """Wait for a turn, then call a function that may have to read the whole database.

        If the caller is cancelled while it waits for its turn, its scan never runs. If the caller
        is cancelled while its scan runs, the scan ends at once.

        Args:
            function: called on the scan's thread with a connection, a time slice that tells the
                function when to stop, and the other arguments.
            args: further arguments of the function.
            kwargs: keyword arguments of the function.

        Returns:
            The result of the function.

        Raises:
            StoreUnavailableError: the database does not answer.
            SQLAlchemyError: the statement is wrong, which is a bug of this program.
        """
        self._wanted_scans += 1
        try:
            async with self._scanning:
                seconds = max(CROWDED_SCAN_SECONDS, SCAN_SECONDS / self._wanted_scans)
                return await self._scan_for(
                    TimeSlice(seconds, SCAN_REST_RATIO),
                    lambda connection, time_slice: function(
                        connection, time_slice, *args, **kwargs
                    ),
                )
        finally:
            self._wanted_scans -= 1

    async def _scan_for(
        self, time_slice: TimeSlice, function: Callable[[Connection, TimeSlice], Result]
    ) -> Result:
        work = asyncio.get_running_loop().run_in_executor(
            self._scanners, self._scan, time_slice, function
        )
        self._slices.add(time_slice)
        try:
            return await self._answered(work)
        finally:
            self._slices.discard(time_slice)
            # If the caller was cancelled, the scan still runs. This call ends the scan, so that the
            # thread is free for the next scan.
            time_slice.end()

    def _scan(
        self, time_slice: TimeSlice, function: Callable[[Connection, TimeSlice], Result]
    ) -> Result:
        interrupt = self._database.interrupt

        def interruptible(connection: Connection) -> Result:
            driver: Any = connection.connection.driver_connection
            stop = None if interrupt is None else lambda: interrupt(driver)
            with time_slice.interrupted_by(stop):
                return function(connection, time_slice)

        return _read(self._database.scanning, interruptible)

    async def _answered(self, work: "asyncio.Future[Result]") -> Result:
        if self._timeout_seconds is None:
            return await work
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await work
        except TimeoutError as error:
            message = "cannot read: the database does not answer now"
            raise StoreUnavailableError(message) from error

    def close(self) -> None:
        """End the threads. Reads by key that have begun are finished; scans end at once."""
        for time_slice in self._slices:
            time_slice.end()
        for pool in (self._readers, self._scanners):
            pool.shutdown(wait=self._timeout_seconds is None, cancel_futures=True)


def _lower_priority() -> None:
    """Lower the priority of the calling thread, but not of the other threads."""
    thread = threading.get_native_id()  # on Linux each thread has a priority of its own
    os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + SCAN_NICENESS)


def _read(engine: Engine, function: Callable[[Connection], Result]) -> Result:
    """Call a function with a connection; call it again if the connection broke while it was idle.

    Raises:
        StoreUnavailableError: the database does not answer.
        SQLAlchemyError: the statement is wrong, which is a bug of this program.
    """
    for last_try in (False, True):
        try:
            # The function only reads, so the transaction is rolled back at the end.
            with engine.connect() as connection:
                return function(connection)
        except SQLAlchemyError as error:
            if not _is_database_failure(error):
                raise
            if last_try or not is_disconnected(error):
                message = "cannot read: the database does not answer now"
                raise StoreUnavailableError(message) from error
    raise AssertionError


def _is_database_failure(error: SQLAlchemyError) -> bool:
    """Return whether the database caused the error; False if the statement is wrong."""
    if isinstance(error, DataError | IntegrityError | ProgrammingError):
        return is_disconnected(error)
    return isinstance(error, DBAPIError | PoolTimeoutError)
