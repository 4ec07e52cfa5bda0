"""From what a person types for a command to its id: any unique beginning or end of it."""

import re
from itertools import islice

from scriptservice.cli.options import fail
from scriptservice.client import Client
from scriptservice.ids import parse_id

SHORT = 8
"""How many of the last characters tables show; the service looks for so many or more."""

_ID_CHARACTERS = re.compile(r"[0-9a-f-]{1,36}", re.IGNORECASE)


def full_id(client: Client, text: str) -> str:
    """Return the id that a text names.

    Args:
        client: to look it up, unless the text is a whole id.
        text: an id, or the beginning or the end of one.

    Raises:
        typer.Exit: it names none, or several.
    """
    if parse_id(text):
        return text.lower()
    wanted = text.lower()
    if not _ID_CHARACTERS.fullmatch(wanted):
        raise fail(f"cannot find command {text}: that is no part of an id")
    found = _matching(client, wanted)
    if not found:
        raise fail(f"cannot find command {text}: no id begins or ends with it")
    if len(found) > 1:
        shown = ", ".join(sorted(found)[:3])
        raise fail(f"cannot tell which command {text} is: {shown}; type more of it")
    return found.pop()


def _matching(client: Client, wanted: str) -> set[str]:
    """Return the ids that begin or end with a text; at most two of them."""
    if len(wanted) >= SHORT:
        return {command.id for command in islice(client.list(id_part=wanted, page_size=2), 2)}
    # The service does not look for less: so little of an id is looked for in all of them.
    found: set[str] = set()
    for command in client.list(page_size=1000):
        if command.id.endswith(wanted) or command.id.startswith(wanted):
            found.add(command.id)
            if len(found) > 1:
                return found
    return found
