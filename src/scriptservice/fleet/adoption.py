"""What an earlier server left open, brought to the dispatcher bit by bit, however much it is.

A server's start calls this once the journal is recorded. It knows neither the keeper nor what is
decided about a command.
"""

import asyncio

import structlog

from scriptservice.errors import StoreError
from scriptservice.fleet.dispatcher import Dispatcher
from scriptservice.fleet.expiry import AGAIN_SECONDS
from scriptservice.store import dispatching
from scriptservice.store.reader import Reader

log = structlog.get_logger()


async def adopt_all(reader: Reader, dispatcher: Dispatcher, held: frozenset[str] | None) -> None:
    """Let a dispatcher take over all commands that are not final.

    A database that does not answer is asked again: what was adopted of a page stays so, and is
    passed over when it comes again.

    Args:
        reader: for what is open.
        dispatcher: that has not begun to dispatch.
        held: what the keeper has; see `Dispatcher.adopt`.
    """
    place: dispatching.Place | None = dispatching.FIRST
    waits = False
    while place is not None:
        try:
            page = await reader.run(dispatching.open_commands, place)
            await dispatcher.adopt(page.commands, held)
        except StoreError as error:
            if not waits:
                log.warning("adoption_waits", error=str(error))
            waits = True
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            place, waits = page.following, False
    dispatcher.adopted()
