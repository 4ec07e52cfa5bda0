"""Ids of commands: UUIDs of version 7, which sort by the time at which they were made."""

import re
from uuid import UUID

import uuid_utils

_CANONICAL = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def new_id() -> UUID:
    """Return a new id; ids made later by this process compare greater."""
    return UUID(int=uuid_utils.uuid7().int)


def parse_id(text: str) -> UUID | None:
    """Return the id that a text in canonical form stands for, or None for any other text."""
    return UUID(text) if _CANONICAL.fullmatch(text) else None


ID_PART_CHARACTERS = 8
"""Minimum number of characters in a search for commands by the beginning or the end of an id."""

_DASHES = (8, 13, 18, 23)
_LENGTH = 36


def id_range(part: str) -> tuple[UUID, UUID] | None:
    """Return the lowest and the highest id whose text begins with a part.

    Args:
        part: beginning of an id's text.

    Returns:
        The two ids, or None if no id can begin with ``part``.
    """
    digits = _digits(part, 0)
    if digits is None:
        return None
    return UUID(hex=digits.ljust(32, "0")), UUID(hex=digits.ljust(32, "f"))


def id_ending(part: str) -> str | None:
    """Return the hexadecimal digits of the end of an id's text, in lower case.

    Args:
        part: end of an id's text.

    Returns:
        The digits, or None if no id can end with ``part``.
    """
    return _digits(part, _LENGTH - len(part))


def _digits(part: str, place: int) -> str | None:
    """Return the hexadecimal digits of a part of an id's text, in lower case.

    Args:
        part: the part of the text.
        place: index in the id's text at which the part starts.

    Returns:
        The digits, or None if no id's text can have the part at that place.
    """
    if not 0 <= place <= _LENGTH - len(part):
        return None
    for at, letter in enumerate(part, place):
        if (letter == "-") != (at in _DASHES) or letter not in "-0123456789abcdefABCDEF":
            return None
    return part.replace("-", "").lower()
