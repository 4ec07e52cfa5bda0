"""Finds a command by the beginning or the end of its id, if only one id matches."""

import re
from itertools import islice
from uuid import UUID

from scriptservice.cli.exit_codes import fail
from scriptservice.client import Client

SHORT_ID_CHARACTERS = 8
"""Number of characters of an id that tables show, counted from the id's end.

The service searches for a part of an id only if the part has at least this many characters.
"""

_ID_CHARACTERS = re.compile(r"[0-9a-f-]{1,36}", re.IGNORECASE)


def short_id(command_id: str) -> str:
    """Return the end of an id, as tables show it."""
    return command_id[-SHORT_ID_CHARACTERS:]


def full_id(client: Client, text: str) -> str:
    """Return the whole id of the command that the user named.

    Args:
        client: searches for the command; not used if the text is a whole id.
        text: a command's id, or the beginning or the end of an id.

    Raises:
        typer.Exit: no id matches the text, or several ids match.
    """
    part = text.lower()
    if _is_whole(part):
        return part
    if not _ID_CHARACTERS.fullmatch(part):
        raise fail(f"'{text}' is not a valid id or part of one")
    found = _matching_ids(client, part)
    if not found:
        raise fail(
            f"cannot find command {text}: no id begins or ends with it; see scriptservice list"
        )
    if len(found) > 1:
        shown = ", ".join(sorted(found)[:3])
        raise fail(f"cannot tell which command {text} is: {shown}; give more of the id")
    return found.pop()


def _is_whole(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _matching_ids(client: Client, part: str) -> set[str]:
    """Return at most two ids that begin or end with a text; two ids mean the text is ambiguous."""
    if len(part) >= SHORT_ID_CHARACTERS:
        return {command.id for command in islice(client.list(id_part=part, page_size=2), 2)}
    # The service does not search for shorter parts, so compare the ids of all commands here.
    found: set[str] = set()
    for command in client.list(page_size=1000):
        if command.id.endswith(part) or command.id.startswith(part):
            found.add(command.id)
            if len(found) > 1:
                return found
    return found
