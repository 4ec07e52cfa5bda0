"""Finds the command that a user means by part of its id: any unique beginning or end."""

import re
from itertools import islice
from uuid import UUID

from scriptservice.cli.exit_codes import fail
from scriptservice.client import Client

SHORT_ID_CHARACTERS = 8
"""Tables show that many characters from the end of an id; the service finds parts of that size."""

_ID_CHARACTERS = re.compile(r"[0-9a-f-]{1,36}", re.IGNORECASE)


def short_id(command_id: str) -> str:
    """Return the end of an id, as tables show it."""
    return command_id[-SHORT_ID_CHARACTERS:]


def full_id(client: Client, text: str) -> str:
    """Return the id that a text names.

    Args:
        client: looks the id up, unless the text is a whole id.
        text: an id, or the beginning or the end of one.

    Raises:
        typer.Exit: no command has such an id, or several have.
    """
    part = text.lower()
    if _is_whole(part):
        return part
    if not _ID_CHARACTERS.fullmatch(part):
        raise fail(f"cannot find command {text}: that is no part of an id")
    found = _matching_ids(client, part)
    if not found:
        raise fail(f"cannot find command {text}: no id begins or ends with it")
    if len(found) > 1:
        shown = ", ".join(sorted(found)[:3])
        raise fail(f"cannot tell which command {text} is: {shown}; type more of it")
    return found.pop()


def _is_whole(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _matching_ids(client: Client, part: str) -> set[str]:
    """Return the ids that begin or end with a text; at most two of them."""
    if len(part) >= SHORT_ID_CHARACTERS:
        return {command.id for command in islice(client.list(id_part=part, page_size=2), 2)}
    # The service does not search for shorter parts, so all commands are listed and compared here.
    found: set[str] = set()
    for command in client.list(page_size=1000):
        if command.id.endswith(part) or command.id.startswith(part):
            found.add(command.id)
            if len(found) > 1:
                return found
    return found
