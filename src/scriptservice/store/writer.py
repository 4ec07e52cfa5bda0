"""The one thread that changes the database: it commits for everyone who waits, at once.

A job is a function of a connection and a list of items, with an item of its own. Whatever has
been handed in while the last transaction was committed goes into the next one; jobs of the same
function that follow each other are called once, with all their items. If a transaction fails,
each of its jobs is tried alone, so that nobody suffers from another's fault.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from scriptservice.errors import StorageFullError, StoreUnavailableError
from scriptservice.store.engine import Database, is_full

Item = TypeVar("Item")
Result = TypeVar("Result")
Job = Callable[[Connection, list[Item]], list[Result]]

BATCH = 500


class _Entry(NamedTuple):
    job: Job[Any, Any]
    item: Any
    future: "asyncio.Future[Any]"


class Writer:
    """Runs jobs in group commits, on a thread of its own.

    Args:
        database: what it writes to.
        loop: where the callers wait.
        on_committed: told on the writer's thread of each transaction: its items, its seconds.
    """

    def __init__(
        self,
        database: Database,
        loop: asyncio.AbstractEventLoop,
        on_committed: Callable[[int, float], None] = lambda items, seconds: None,  # noqa: ARG005
    ) -> None:
        self._engine = database.writing
        self._loop = loop
        self._on_committed = on_committed
        self._connection: Connection | None = None
        self._entries: deque[_Entry] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(self, job: "Job[Item, Result]", item: Item) -> "asyncio.Future[Result]":
        """Run a job in the next transaction.

        Args:
            job: called on the writer's thread with a connection and the items of all callers
                that are batched; returns a result for each. It may be called again.
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

    async def close(self) -> None:
        """Commit what was handed in, then end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._entries and not self._stopping:
                    self._wake.wait()
                if not self._entries:
                    break
                batch = [self._entries.popleft() for _ in range(min(BATCH, len(self._entries)))]
            results = self._commit(batch)
            self._loop.call_soon_threadsafe(_resolve, batch, results)
        if self._connection is not None:
            self._connection.close()

    def _commit(self, batch: list[_Entry]) -> list[Any]:
        """Return a result or an exception for each entry."""
        try:
            return self._transaction(batch)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            self._reconnect()
            if len(batch) == 1:
                return [_translated(error)]
        return [self._commit([entry])[0] for entry in batch]

    def _transaction(self, batch: list[_Entry]) -> list[Any]:
        if self._connection is None:
            self._connection = self._engine.connect()
        results: list[Any] = []
        began = time.perf_counter()
        with self._connection.begin():
            for job, entries in groupby(batch, key=lambda entry: entry.job):
                results += job(self._connection, [entry.item for entry in entries])
        self._on_committed(len(batch), time.perf_counter() - began)
        return results

    def _reconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except SQLAlchemyError:
                # It is given up in any case; the next transaction opens another.
                connection.invalidate()


def _translated(error: Exception) -> Exception:
    if isinstance(error, DatabaseError) and is_full(error):
        return StorageFullError("cannot store: the disk is full")
    if isinstance(error, SQLAlchemyError):
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
