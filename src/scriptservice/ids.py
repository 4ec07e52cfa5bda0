"""Ids of commands: UUIDs of version 7, which sort by the time they were made."""

import re
from uuid import UUID

import uuid_utils

_CANONICAL = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def new_id() -> UUID:
    """Return a new id; ids made later by this process compare greater."""
    return UUID(int=uuid_utils.uuid7().int)


def parse_id(text: str) -> UUID | None:
    """Return the id that a canonical text names, None if it names none."""
    return UUID(text) if _CANONICAL.fullmatch(text) else None
