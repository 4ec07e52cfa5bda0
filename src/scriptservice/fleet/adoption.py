"""What an earlier server left open, brought to the dispatcher bit by bit, however much it is.

A server's start calls this once the journal is recorded. It knows neither the keeper nor what is
decided about a command.
"""

from functools import partial

from scriptservice.fleet.dispatcher import Dispatcher
from scriptservice.store.queries import dispatching
from scriptservice.store.reader import Reader
from scriptservice.store.until_stored import until_stored

EVENT = "adoption_waits"


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
    while place is not None:
        place = await until_stored(partial(_adopt_page, reader, dispatcher, held, place), EVENT)
    dispatcher.adopted()


async def _adopt_page(
    reader: Reader,
    dispatcher: Dispatcher,
    held: frozenset[str] | None,
    place: dispatching.Place,
) -> dispatching.Place | None:
    page = await reader.run(dispatching.open_commands, place)
    await dispatcher.adopt(page.commands, held)
    return page.following
