"""Goes on trying while the database is away: the one loop for whatever has to be done in the end.

What a client asks for is answered with 503 instead; this is for the service's own work.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from scriptservice.errors import StoreError
from scriptservice.store.writer import cause_of

Result = TypeVar("Result")

AGAIN_SECONDS = 0.5
"""How long to wait before the database is tried again."""

log = structlog.get_logger()


async def until_stored(
    work: Callable[[], Awaitable[Result]],
    event: str | None,
    *,
    unless: Callable[[], bool] = lambda: False,
    on_waiting: Callable[[str | None], None] = lambda reason: None,  # noqa: ARG005
    again_seconds: float = AGAIN_SECONDS,
) -> Result:
    """Do some work with the database, again and again until the database does it.

    A cancellation ends it, in the work as in a pause.

    Args:
        work: called for each try; safe to be done again.
        event: logged when a try fails, once for each reason; None to log nothing.
        unless: asked after each failure whether to give up, such as at a shutdown.
        on_waiting: told why the work waits, after each failure, and None at the end.
        again_seconds: between two tries.

    Returns:
        What the work returned.

    Raises:
        StoreError: of the last try, if it was given up.
    """
    logged: str | None = None
    while True:
        try:
            result = await work()
        except StoreError as error:
            if unless():
                raise
            reason = str(error)
            on_waiting(reason)
            if event is not None and (cause := cause_of(error)) != logged:
                log.warning(event, error=reason, cause=cause)
                logged = cause
            await asyncio.sleep(again_seconds)
        else:
            on_waiting(None)
            return result
