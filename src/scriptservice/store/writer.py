"""The one thread that changes the database: it commits for everyone who waits, at once.

A job is a function of a connection and a list of items, with an item of its own. Whatever has
been handed in while the last transaction was committed goes into the next one; jobs of the same
function that follow each other are called once, with all their items. If a transaction fails,
each of its jobs is tried alone, so that nobody suffers from another's fault.

A connection can break while a commit is under way, and then nobody knows what became of it. Such
a transaction is done again, however long the database is away: every job finds out by ids and
positions what it has done already. So what was stored is known to be stored before anything else
is, and whoever waits for it is told.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import (
    DatabaseError,
    DataError,
    IntegrityError,
    ProgrammingError,
    SQLAlchemyError,
)

from scriptservice.errors import StorageFullError, StoreUnavailableError
from scriptservice.store.database.engine import (
    Database,
    is_disconnected,
    is_full,
    write_nothing,
    write_something,
)

Item = TypeVar("Item")
Result = TypeVar("Result")
Job = Callable[[Connection, list[Item]], list[Result]]

BATCH = 500
PATIENCE_SECONDS = 10.0
RETRY_SECONDS = 0.5

log = structlog.get_logger()


_OF_THE_JOB = (IntegrityError, DataError, ProgrammingError)
"""Errors that would come again, however often it is tried."""


class _Entry(NamedTuple):
    job: Job[Any, Any]
    item: Any
    future: "asyncio.Future[Any]"


class _InDoubtError(Exception):
    """The connection broke while a commit was under way."""


class Writer:
    """Runs jobs in group commits, on a thread of its own.

    Args:
        database: what it writes to.
        loop: where the callers wait.
        on_committed: told on the writer's thread of each transaction: its items, its seconds.
        on_connected: called on the writer's thread with each new connection, before any job.
        reached: called on the writer's thread with ``writer.begun``, ``.written`` and
            ``.committed`` when a transaction is so far; for tests that end the process there.

    Attributes:
        unavailable: why the database takes no writes now, for the log; None while it does.
    """

    def __init__(
        self,
        database: Database,
        loop: asyncio.AbstractEventLoop,
        on_committed: Callable[[int, float], None] = lambda items, seconds: None,  # noqa: ARG005
        on_connected: Callable[[Connection], None] = lambda connection: None,  # noqa: ARG005
        reached: Callable[[str], None] = lambda point: None,  # noqa: ARG005
    ) -> None:
        self._engine = database.writing
        self._loop = loop
        self._keeps_session = database.writes_by_session
        self._on_committed = on_committed
        self._on_connected = on_connected
        self._reached = reached
        self._connection: Connection | None = None
        self._entries: deque[_Entry] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self.unavailable: str | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(self, job: "Job[Item, Result]", item: Item) -> "asyncio.Future[Result]":
        """Run a job in the next transaction.

        Args:
            job: called on the writer's thread with a connection and the items of all callers
                that are batched; returns a result for each. It may be called again, even after
                what it did was committed.
            item: this caller's.

        Returns:
            This caller's result, once it is committed. Awaiting it raises what the job raised,
            `StorageFullError` or `StoreUnavailableError`.
        """
        future: asyncio.Future[Result] = self._loop.create_future()
        with self._wake:
            self._entries.append(_Entry(job, item, future))
            self._wake.notify()
        return future

    async def patiently(self, future: "asyncio.Future[Result]") -> Result:
        """Wait for a job, but not for a database that is away.

        Args:
            future: what `submit` returned. It goes on if the caller is cancelled.

        Raises:
            StoreUnavailableError: it took too long. If the job had not begun it never will;
                else what becomes of it is in the future.
        """
        # What `asyncio.timeout` around `asyncio.shield` does, at a quarter of the price.
        answered = self._loop.create_future()
        late = self._loop.call_later(PATIENCE_SECONDS, _wake, answered)
        future.add_done_callback(lambda _: _wake(answered))
        try:
            await answered
        finally:
            late.cancel()
        if future.done():
            return future.result()
        if self._withdraw(future):
            message = "cannot store: the database does not answer now; nothing was stored"
        else:
            message = "cannot say whether it was stored: the database does not answer now"
        raise StoreUnavailableError(message)

    async def run(self, job: "Job[Item, Result]", item: Item) -> Result:
        """Submit a job and wait for it `patiently`."""
        return await self.patiently(self.submit(job, item))

    def _withdraw(self, future: "asyncio.Future[Any]") -> bool:
        """Take back a job that has not begun; return whether that was so."""
        with self._wake:
            for entry in self._entries:
                if entry.future is future:
                    self._entries.remove(entry)
                    break
            else:
                return False
        message = "cannot store: the database does not answer now"
        future.set_exception(StoreUnavailableError(message))
        future.exception()  # its callbacks know; nobody else may be there to see it
        return True

    async def close(self) -> None:
        """Commit what was handed in, then end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)

    # On the writer's thread

    def _run(self) -> None:
        while batch := self._next_batch():
            results = self._commit(batch)
            self._loop.call_soon_threadsafe(_resolve, batch, results)
        self._disconnect()

    def _next_batch(self) -> list[_Entry]:
        """Wait for jobs; return some, or none at the end."""
        while True:
            with self._wake:
                if not self._entries and not self._stopping:
                    self._wake.wait(None if self.unavailable is None else RETRY_SECONDS)
                if self._entries or self._stopping:
                    count = min(BATCH, len(self._entries))
                    return [self._entries.popleft() for _ in range(count)]
            if self.unavailable is not None:
                # Nobody writes, so nobody would find out that it is back.
                self._probe()

    def _probe(self) -> None:
        try:
            self._transaction([_Entry(write_nothing, None, self._loop.create_future())])
        except Exception as error:  # noqa: BLE001 - it is told to whoever asks
            self._failed(error, lost=self._connection_lost(error))

    def _commit(self, batch: list[_Entry]) -> list[Any]:
        """Return a result or an exception for each entry."""
        try:
            return self._transaction_again(batch)
        except _InDoubtError:
            return self._settle(batch)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            lost = self._connection_lost(error)
            self._failed(error, lost=lost)
            if lost or len(batch) == 1:
                return [_translated(error)] * len(batch)
        return [self._commit([entry])[0] for entry in batch]

    def _transaction_again(self, batch: list[_Entry]) -> list[Any]:
        """Run a transaction; once more if only an idle connection had broken."""
        was_connected = self._connection is not None
        try:
            return self._transaction(batch)
        except SQLAlchemyError as error:
            if not (was_connected and is_disconnected(error)):
                raise
            self._disconnect()
        return self._transaction(batch)

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = self._engine.connect()
            try:
                with connection.begin():
                    self._on_connected(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _transaction(self, batch: list[_Entry], *, settling: bool = False) -> list[Any]:
        connection = self._connected()
        results: list[Any] = []
        began = time.perf_counter()
        with connection.begin() as transaction:
            self._reached("writer.begun")
            for job, entries in groupby(batch, key=lambda entry: entry.job):
                results += job(connection, [entry.item for entry in entries])
            if settling:
                write_something(connection)
            self._reached("writer.written")
            try:
                transaction.commit()
            except SQLAlchemyError as error:
                if is_disconnected(error):
                    raise _InDoubtError from error
                raise
        self._reached("writer.committed")
        if self.unavailable is not None:
            log.info("store_available")
            self.unavailable = None
        self._on_committed(len(batch), time.perf_counter() - began)
        return results

    def _settle(self, batch: list[_Entry]) -> list[Any]:
        """Do again what may have been done, until it is known to be done.

        Whatever the database says meanwhile (away, full, locked) is waited for: only an error of
        the job itself ends it.
        """
        self._disconnect()
        while True:
            try:
                return self._transaction(batch, settling=True)
            except Exception as error:  # noqa: BLE001 - handed to whoever waits
                own = not isinstance(error, SQLAlchemyError | _InDoubtError | StoreUnavailableError)
                own = own or isinstance(error, _OF_THE_JOB)
                self._failed(error, lost=not own)
                if own and len(batch) == 1:
                    return [_translated(error)]
                if self._given_up():
                    message = "cannot say whether it was stored: the server ends"
                    return [StoreUnavailableError(message)] * len(batch)
            if own:
                break
        return [self._settle([entry])[0] for entry in batch]

    def _given_up(self) -> bool:
        """Wait a moment; return whether the server ends."""
        with self._wake:
            return self._wake.wait_for(lambda: self._stopping, RETRY_SECONDS)

    def _connection_lost(self, error: Exception) -> bool:
        """Whether an error is the connection's: the next job would meet it as well."""
        return self._connection is None or is_disconnected(error)

    def _failed(self, error: Exception, *, lost: bool) -> None:
        translated = _translated(error)
        if isinstance(translated, StoreUnavailableError) and not isinstance(error, _OF_THE_JOB):
            reason = cause_of(translated)
            if reason != self.unavailable:
                log.warning("store_unavailable", reason=reason)
            self.unavailable = reason
        # One that works is kept where others could take its place: the transaction is rolled back.
        if lost or not self._keeps_session:
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except SQLAlchemyError:
                # It is given up in any case; the next transaction opens another.
                connection.invalidate()


def _wake(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)


def cause_of(error: BaseException) -> str:
    """Return what the database itself said, on one line and without statement or values."""
    cause = error.__cause__ or error
    if isinstance(cause, _InDoubtError):
        cause = cause.__cause__ or cause
    return " ".join(str(getattr(cause, "orig", None) or cause).split())


def _translated(error: Exception) -> Exception:
    if isinstance(error, DatabaseError) and is_full(error):
        return StorageFullError("cannot store: the disk is full")
    if isinstance(error, SQLAlchemyError | _InDoubtError):
        wrapped = StoreUnavailableError("cannot store: the database does not take it now")
        wrapped.__cause__ = error
        return wrapped
    return error


def _resolve(batch: list[_Entry], results: list[Any]) -> None:
    for entry, result in zip(batch, results, strict=True):
        if entry.future.done():  # its caller went away; what it asked for is done all the same
            continue
        if isinstance(result, Exception):
            entry.future.set_exception(result)
        else:
            entry.future.set_result(result)
