"""Retries work of the service until the database accepts it.

This is the only such retry loop. The service uses it only for its own work. If the database does
not accept the work of a client's request, the client gets 503 instead.
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
    """Repeat some work until the database accepts it.

    If the caller is cancelled, the loop ends, both during the work and during a pause.

    Args:
        work: called for each try; must be safe to repeat.
        event: name of the log event for failed tries; None to log nothing. A failure is not logged
            again while its cause stays the same.
        unless: called after each failure; if it returns True, for example at a shutdown, the loop
            gives up.
        on_waiting: called with the reason after each failure, and with None after the success.
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
