"""API tokens.

The database has only the SHA-256 of a token. A token is random, so its hash needs no salt.
"""

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
        name: name of the token's owner; commands that are submitted with the token get this name
            as their ``created_by``.
        scope: ``read``, ``run`` or ``admin``.
        sha256: SHA-256 of the token's text.
        created_at: time of creation, in microseconds since 1970 UTC.
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
    """Store tokens. A token replaces a stored token that has the same name."""
    for token in items:
        connection.execute(delete(tokens).where(tokens.c.name == token.name))
        values = {name: getattr(token, name) for name in Token.__slots__}
        connection.execute(insert(tokens).values(**values))
    return [None] * len(items)
