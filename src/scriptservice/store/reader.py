"""The small pool of threads that read the database, each call with a snapshot of its own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from scriptservice.errors import StoreUnavailableError
from scriptservice.store.engine import READERS, Database, is_disconnected

P = ParamSpec("P")
Result = TypeVar("Result")


class Reader:
    """Runs reading functions of ``commands``, ``output`` and the rest.

    Args:
        database: what it reads.
    """

    def __init__(self, database: Database) -> None:
        self._engine = database.reading
        self._patience_seconds = database.patience_seconds
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="reader")

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
        work = asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: self._read(lambda connection: function(connection, *args, **kwargs))
        )
        if self._patience_seconds is None:
            return await work
        try:
            async with asyncio.timeout(self._patience_seconds):
                return await work
        except TimeoutError as error:
            message = "cannot read: the database does not answer now"
            raise StoreUnavailableError(message) from error

    def _read(self, function: Callable[[Connection], Result]) -> Result:
        """Call a function; once more if only an idle connection had broken."""
        for last_try in (False, True):
            try:
                # Nothing is to be committed: the transaction that begins here is rolled back.
                with self._engine.connect() as connection:
                    return function(connection)
            except SQLAlchemyError as error:
                if not _is_its_own(error):
                    raise
                if last_try or not is_disconnected(error):
                    message = "cannot read: the database does not answer now"
                    raise StoreUnavailableError(message) from error
        raise AssertionError

    def close(self) -> None:
        """End the threads after what they are at."""
        self._pool.shutdown(wait=self._patience_seconds is None, cancel_futures=True)


def _is_its_own(error: SQLAlchemyError) -> bool:
    """Whether an error is the database's, and not of what it was asked."""
    if isinstance(error, DataError | IntegrityError | ProgrammingError):
        return is_disconnected(error)
    return isinstance(error, DBAPIError | PoolTimeoutError)
