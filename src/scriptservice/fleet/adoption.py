"""Adopts the commands that an earlier server left open, that is, not in a final status.

The server calls `adopt_all` at its start, after the journal is stored in the database. The open
commands are read from the database one page at a time. For each command, `Dispatcher.adopt` decides
what to do: for example, to send the command to the keeper again, or to end the command as lost.
"""

from functools import partial

from scriptservice.fleet.dispatcher import Dispatcher
from scriptservice.store.queries import dispatching
from scriptservice.store.reader import Reader
from scriptservice.store.until_stored import until_stored

EVENT = "adoption_waits"


async def adopt_all(reader: Reader, dispatcher: Dispatcher, held: frozenset[str] | None) -> None:
    """Let a dispatcher adopt all commands whose status is not final.

    If the database does not answer, the present page is read again later. The dispatcher then skips
    those commands of the page that it has adopted already.

    Args:
        reader: reads the open commands.
        dispatcher: adopts the commands; its `Dispatcher.run` must not have been called yet.
        held: ids of the commands that the keeper holds; see `Dispatcher.adopt`.
    """
    place: dispatching.PageStart | None = dispatching.FIRST_PAGE
    while place is not None:
        place = await until_stored(partial(_adopt_page, reader, dispatcher, held, place), EVENT)
    dispatcher.finish_adoption()


async def _adopt_page(
    reader: Reader,
    dispatcher: Dispatcher,
    held: frozenset[str] | None,
    place: dispatching.PageStart,
) -> dispatching.PageStart | None:
    page = await reader.run(dispatching.open_commands, place)
    await dispatcher.adopt(page.commands, held)
    return page.next_start
