"""Retries work of the service until the database takes it: the one retry loop for that purpose.

It is for the service's own work. A client's request is answered with 503 instead.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from scriptservice.errors import StoreError
from scriptservice.store.writer import cause_of

Result = TypeVar("Result")

AGAIN_SECONDS = 0.5
"""Pause between two tries."""

log = structlog.get_logger()


async def until_stored(
    work: Callable[[], Awaitable[Result]],
    event: str | None,
    *,
    unless: Callable[[], bool] = lambda: False,
    on_waiting: Callable[[str | None], None] = lambda reason: None,  # noqa: ARG005
    again_seconds: float = AGAIN_SECONDS,
) -> Result:
    """Repeat some work until the database does it.

    Cancelling the caller ends it, during the work and during a pause.

    Args:
        work: called for each try; must be safe to repeat.
        event: name of the log event for a failed try, logged once for each cause; None for no log.
        unless: called after each failure; True gives up, such as at a shutdown.
        on_waiting: called with the reason after each failure, and with None at the end.
        again_seconds: pause between two tries.

    Returns:
        The result of ``work``.

    Raises:
        StoreError: the error of the last try, if ``unless`` gave up.
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
