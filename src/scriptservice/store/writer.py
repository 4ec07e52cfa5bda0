"""The one thread that changes the database, with group commits for all callers.

A job is a function of a connection and a list of items; each caller submits a job and one item.
Submissions that arrive during a transaction go into the next transaction. If several submissions
in a row have the same job, the job is called once with all their items. If a transaction fails,
each of its submissions is tried alone, so that one caller's error does not affect the others.

If a connection breaks during a commit, nobody knows whether the transaction was committed. The
writer then repeats the transaction until it succeeds, however long the database is unavailable.
This is safe, because every job finds out by ids and positions which of its changes are already
stored. The writer stores nothing else until the outcome of this transaction is known and the
callers have got their results.
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
    probe_write,
    write_unchanged,
)
from scriptservice.store.release_schedule import RELEASE_RETRY_SECONDS, ReleaseSchedule

Item = TypeVar("Item")
Result = TypeVar("Result")
Job = Callable[[Connection, list[Item]], list[Result]]

MAX_BATCH_ITEMS = 500
TIMEOUT_SECONDS = 10.0
RETRY_SECONDS = 0.5

log = structlog.get_logger()


_JOB_ERRORS = (IntegrityError, DataError, ProgrammingError)
"""Errors that the job itself causes: the job would fail again each time it is repeated."""


class _Entry(NamedTuple):
    job: Job[Any, Any]
    item: Any
    future: "asyncio.Future[Any]"


class _InDoubtError(Exception):
    """The connection broke during a commit. The transaction may or may not be committed."""


class Writer:
    """Runs jobs in group commits on its own thread.

    Args:
        database: the database to write to.
        loop: event loop of the callers.
        on_committed: called on the writer's thread after each commit, with the number of items in
            the transaction and the transaction's duration in seconds.
        on_connected: called on the writer's thread with each new connection, before any job.
        reached: called on the writer's thread when a transaction reaches one of the points
            ``writer.begun``, ``writer.written`` and ``writer.committed``, with the name of the
            point. Only fault tests use this function.

    Attributes:
        unavailable_reason: why the database does not accept writes now; None while it accepts
            writes.
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
        self._keeps_session = database.write_lock_in_session
        self._release_free_pages = database.release_free_pages
        self._on_committed = on_committed
        self._on_connected = on_connected
        self._reached = reached
        self._connection: Connection | None = None
        self._entries: deque[_Entry] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._release_schedule = ReleaseSchedule()
        self._committed_at = 0.0
        self.unavailable_reason: str | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(self, job: "Job[Item, Result]", item: Item) -> "asyncio.Future[Result]":
        """Submit a job; the writer runs it in the next transaction.

        Args:
            job: called on the writer's thread with a connection and the items of all callers in
                the batch; returns one result for each item. The writer may call the job again,
                even after the job's changes were committed.
            item: this caller's item.

        Returns:
            A future that gets the result for this caller's item after the commit. If the
            transaction fails, the future raises the job's error, `StorageFullError` or
            `StoreUnavailableError`.
        """
        future: asyncio.Future[Result] = self._loop.create_future()
        with self._wake:
            self._entries.append(_Entry(job, item, future))
            self._wake.notify()
        return future

    async def wait_with_timeout(self, future: "asyncio.Future[Result]") -> Result:
        """Wait for a job for at most `TIMEOUT_SECONDS`.

        Args:
            future: the future that `submit` returned. If the caller is cancelled, the future stays
                valid.

        Returns:
            The result of the future.

        Raises:
            StoreUnavailableError: the job took too long. If the job had not begun, it is
                withdrawn. Otherwise the job goes on, and its future still gets the result.
        """
        # This does the same as `asyncio.timeout` around `asyncio.shield`, at a quarter of the cost.
        answered = self._loop.create_future()
        late = self._loop.call_later(TIMEOUT_SECONDS, _wake, answered)
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
        """Submit a job and wait for it as `wait_with_timeout` does."""
        return await self.wait_with_timeout(self.submit(job, item))

    def _withdraw(self, future: "asyncio.Future[Any]") -> bool:
        """Withdraw a job that has not begun; return False if the job has begun."""
        with self._wake:
            for entry in self._entries:
                if entry.future is future:
                    self._entries.remove(entry)
                    break
            else:
                return False
        message = "cannot store: the database does not answer now"
        future.set_exception(StoreUnavailableError(message))
        # Without this call asyncio would log an error if nobody reads the exception.
        future.exception()
        return True

    def release_space(self) -> None:
        """Give free pages back to the file system, in short steps while there are no jobs."""
        if self._release_free_pages is not None:
            with self._wake:
                self._release_schedule.request(time.monotonic())
                self._wake.notify()

    async def close(self) -> None:
        """Commit all submitted jobs, then end the thread."""
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
        """Wait for jobs; return a batch of them, or an empty batch when the writer ends."""
        while True:
            with self._wake:
                if not self._entries and not self._stopping:
                    self._wake.wait(self._idle_seconds())
                if self._entries or self._stopping:
                    count = min(MAX_BATCH_ITEMS, len(self._entries))
                    return [self._entries.popleft() for _ in range(count)]
            if self.unavailable_reason is not None:
                # While nobody submits a job, only a probe can detect that the database is
                # available again.
                self._probe()
            elif self._idle_seconds() == 0:
                self._release_some()

    def _idle_seconds(self) -> float | None:
        """Return how long the writer may wait for a job before it does something else."""
        if self.unavailable_reason is not None:
            return RETRY_SECONDS
        return self._release_schedule.seconds_left(time.monotonic(), self._committed_at)

    def _release_some(self) -> None:
        """Do one step of giving free pages back to the file system."""
        assert self._release_free_pages is not None  # noqa: S101 - for the type checker
        with self._wake:
            self._release_schedule.clear()
        try:
            seconds = self._release_free_pages(self._connected().connection.driver_connection)
        except Exception as error:  # noqa: BLE001 - reported, and tried again
            # The free pages stay in the file. That does no harm, and new rows use them.
            log.warning("release_failed", reason=cause_of(error))
            self._disconnect()
            seconds = RELEASE_RETRY_SECONDS
        if seconds is not None:
            with self._wake:
                self._release_schedule.request(time.monotonic() + seconds)

    def _probe(self) -> None:
        try:
            self._transaction([_Entry(probe_write, None, self._loop.create_future())])
        except Exception as error:  # noqa: BLE001 - kept as `unavailable_reason`
            self._failed(error, lost=self._connection_lost(error))

    def _commit(self, batch: list[_Entry]) -> list[Any]:
        """Commit a batch; return a result or an exception for each entry."""
        try:
            return self._transaction_again(batch)
        except _InDoubtError:
            return self._retry_in_doubt(batch)
        except Exception as error:  # noqa: BLE001 - handed to the callers
            lost = self._connection_lost(error)
            self._failed(error, lost=lost)
            if lost or len(batch) == 1:
                return [_translate(error)] * len(batch)
        return [self._commit([entry])[0] for entry in batch]

    def _transaction_again(self, batch: list[_Entry]) -> list[Any]:
        """Run a transaction; run it again if the connection broke while it was idle."""
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

    def _transaction(self, batch: list[_Entry], *, in_doubt: bool = False) -> list[Any]:
        connection = self._connected()
        results: list[Any] = []
        began = time.perf_counter()
        with connection.begin() as transaction:
            self._reached("writer.begun")
            for job, entries in groupby(batch, key=lambda entry: entry.job):
                results += job(connection, [entry.item for entry in entries])
            if in_doubt:
                write_unchanged(connection)
            self._reached("writer.written")
            try:
                transaction.commit()
            except SQLAlchemyError as error:
                if is_disconnected(error):
                    raise _InDoubtError from error
                raise
        self._committed_at = time.monotonic()
        self._reached("writer.committed")
        if self.unavailable_reason is not None:
            log.info("store_available")
            self.unavailable_reason = None
        self._on_committed(len(batch), time.perf_counter() - began)
        return results

    def _retry_in_doubt(self, batch: list[_Entry]) -> list[Any]:
        """Repeat a transaction that may have been committed, until its outcome is known.

        If a job itself causes an error, each entry is repeated alone, so that only the entry that
        causes the error gets the exception. While the database is unavailable, full or locked, the
        writer waits and tries again, until the server ends.

        Returns:
            A result or an exception for each entry of the batch.
        """
        self._disconnect()
        while True:
            try:
                return self._transaction(batch, in_doubt=True)
            except Exception as error:  # noqa: BLE001 - handed to the callers
                is_job_error = not isinstance(
                    error, SQLAlchemyError | _InDoubtError | StoreUnavailableError
                )
                is_job_error = is_job_error or isinstance(error, _JOB_ERRORS)
                self._failed(error, lost=not is_job_error)
                if is_job_error and len(batch) == 1:
                    return [_translate(error)]
                if self._wait_before_retry():
                    message = "cannot say whether it was stored: the server is ending"
                    return [StoreUnavailableError(message)] * len(batch)
            if is_job_error:
                break
        return [self._retry_in_doubt([entry])[0] for entry in batch]

    def _wait_before_retry(self) -> bool:
        """Wait before the next try; return whether the server is ending."""
        with self._wake:
            return self._wake.wait_for(lambda: self._stopping, RETRY_SECONDS)

    def _connection_lost(self, error: Exception) -> bool:
        """Return whether the connection is lost, so that the next job would fail too."""
        return self._connection is None or is_disconnected(error)

    def _failed(self, error: Exception, *, lost: bool) -> None:
        translated = _translate(error)
        if isinstance(translated, StoreUnavailableError) and not isinstance(error, _JOB_ERRORS):
            reason = cause_of(translated)
            if reason != self.unavailable_reason:
                log.warning("store_unavailable", reason=reason)
            self.unavailable_reason = reason
        # On PostgreSQL the connection holds the right to write. If the connection were closed,
        # another server could take that right. So the writer keeps a connection that still works.
        # The failed transaction is already rolled back.
        if lost or not self._keeps_session:
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except SQLAlchemyError:
                # The connection is not used again; the next transaction opens another one.
                connection.invalidate()


def _wake(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)


def cause_of(error: BaseException) -> str:
    """Return the database's own error message on one line, without the statement and its values."""
    cause = error.__cause__ or error
    if isinstance(cause, _InDoubtError):
        cause = cause.__cause__ or cause
    return " ".join(str(getattr(cause, "orig", None) or cause).split())


def _translate(error: Exception) -> Exception:
    if isinstance(error, DatabaseError) and is_full(error):
        return StorageFullError("cannot store: the disk is full")
    if isinstance(error, SQLAlchemyError | _InDoubtError):
        wrapped = StoreUnavailableError("cannot store: the database takes no writes now")
        wrapped.__cause__ = error
        return wrapped
    return error


def _resolve(batch: list[_Entry], results: list[Any]) -> None:
    for entry, result in zip(batch, results, strict=True):
        if entry.future.done():  # the caller was cancelled, so nobody needs the result
            continue
        if isinstance(result, Exception):
            entry.future.set_exception(result)
        else:
            entry.future.set_result(result)
