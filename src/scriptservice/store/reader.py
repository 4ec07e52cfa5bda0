"""The threads that read the database: a pool for reads by key, and one thread for scans.

A read by key costs the same whatever the database holds. A scan may go through everything; it has
a thread and a connection of its own, works for a bounded time, and waits its turn. So whatever is
searched for, a read by key never waits for a scan.
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
"""How long a scan works before it answers with what it has found, at most."""

CROWDED_SCAN_SECONDS = 0.05
"""The same, at least: with many waiting, each works for less, so that nobody waits for long."""


SCAN_REST = 1.0
"""Seconds that a scan rests for each that it works: half a core is left to the others."""

SCAN_NICE = 5
"""How much nicer than the others the scan's thread is: on busy cores it gets a third of their time.

Not more: it holds the interpreter's lock now and then, and while busy scripts keep it from a core
the event loop waits for that lock.
"""


class Reader:
    """Runs reading functions of ``commands``, ``output`` and the rest.

    Args:
        database: what it reads.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._patience_seconds = database.patience_seconds
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._scanners = ThreadPoolExecutor(
            SCANNERS, thread_name_prefix="scanner", initializer=_be_nice
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
        """Call a function with a connection in a transaction that sees one moment.

        Raises:
            StoreUnavailableError: the database does not answer.
            SQLAlchemyError: what it was asked makes no sense to it: a bug of ours.
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
        """Call a function that may have to go through everything, once it is its turn.

        A caller that is cancelled gives up its turn; a scan that it has begun ends at once.

        Args:
            function: called with a connection and a time slice, which tells it when to stop.
            args: of the function.
            kwargs: of the function.

        Raises:
            StoreUnavailableError: the database does not answer.
            SQLAlchemyError: what it was asked makes no sense to it: a bug of ours.
        """
        self._wanted_scans += 1
        try:
            async with self._scanning:
                seconds = max(CROWDED_SCAN_SECONDS, SCAN_SECONDS / self._wanted_scans)
                return await self._scan_for(
                    TimeSlice(seconds, SCAN_REST),
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
            # If the caller has gone, the thread is free in a moment: the next scan waits for it.
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
        if self._patience_seconds is None:
            return await work
        try:
            async with asyncio.timeout(self._patience_seconds):
                return await work
        except TimeoutError as error:
            message = "cannot read: the database does not answer now"
            raise StoreUnavailableError(message) from error

    def close(self) -> None:
        """End the threads after what they are at; scans at once."""
        for time_slice in self._slices:
            time_slice.end()
        for pool in (self._readers, self._scanners):
            pool.shutdown(wait=self._patience_seconds is None, cancel_futures=True)


def _be_nice() -> None:
    """Let this thread, and no other, give way to others where there are too few cores."""
    thread = threading.get_native_id()  # on Linux each thread has a priority of its own
    os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + SCAN_NICE)


def _read(engine: Engine, function: Callable[[Connection], Result]) -> Result:
    """Call a function; once more if only an idle connection had broken."""
    for last_try in (False, True):
        try:
            # Nothing is to be committed: the transaction that begins here is rolled back.
            with engine.connect() as connection:
                return function(connection)
        except SQLAlchemyError as error:
            if not _is_its_own(error):
                raise
            if last_try or not is_disconnected(error):
                message = "cannot read: the database does not answer now"
                raise StoreUnavailableError(message) from error
    raise AssertionError


def _is_its_own(error: SQLAlchemyError) -> bool:
    """Whether an error is the database's, and not of what it was asked."""
    if isinstance(error, DataError | IntegrityError | ProgrammingError):
        return is_disconnected(error)
    return isinstance(error, DBAPIError | PoolTimeoutError)
