"""The small pool of threads that read the database, each call with a snapshot of its own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from scriptservice.errors import StoreUnavailableError
from scriptservice.store.engine import READERS, Database

P = ParamSpec("P")
Result = TypeVar("Result")


class Reader:
    """Runs reading functions of ``commands``, ``output`` and the rest.

    Args:
        database: what it reads.
    """

    def __init__(self, database: Database) -> None:
        self._engine = database.reading
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
        """

        def call() -> Result:
            try:
                with self._engine.begin() as connection:
                    return function(connection, *args, **kwargs)
            except SQLAlchemyError as error:
                message = "cannot read: the database does not answer now"
                raise StoreUnavailableError(message) from error

        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def close(self) -> None:
        """End the threads after what they are at."""
        self._pool.shutdown()
