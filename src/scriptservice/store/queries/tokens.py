"""API tokens. Only their SHA-256 is stored; a token is random enough to need no salt."""

import hashlib
import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from scriptservice.store.database.tables import tokens

PREFIX = "ss_"


@dataclass(frozen=True, slots=True)
class Token:
    """A token as the database stores it.

    Attributes:
        name: name of its owner; becomes ``created_by`` of commands submitted with it.
        scope: ``read``, ``run`` or ``admin``.
        sha256: SHA-256 of its text.
        created_at: microseconds since 1970 UTC.
    """

    name: str
    scope: str
    sha256: bytes
    created_at: int


def new_token_text() -> str:
    """Return the text of a new token, which has 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(text: str) -> bytes:
    """Return the SHA-256 of a token's text."""
    return hashlib.sha256(text.encode()).digest()


def all_tokens(connection: Connection) -> list[Token]:
    """Return all tokens."""
    return [Token(*row) for row in connection.execute(select(tokens))]


def add_token(connection: Connection, items: list[Token]) -> list[None]:
    """Store tokens in place of those with the same names."""
    for token in items:
        connection.execute(delete(tokens).where(tokens.c.name == token.name))
        values = {name: getattr(token, name) for name in Token.__slots__}
        connection.execute(insert(tokens).values(**values))
    return [None] * len(items)
