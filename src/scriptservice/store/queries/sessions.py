"""Sessions in the database: who is signed in to the page, and since when.

Only what a cookie hashes to is kept, and the hash of the token that signed in. The server has all
of them in memory and asks the database only when it starts.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from scriptservice.store.database.tables import sessions


@dataclass(frozen=True, slots=True)
class Session:
    """What is kept of a session.

    Attributes:
        sha256: of the secret in its cookie.
        token_sha256: of the token that signed in; without that token the session is over.
        created_at: microseconds since 1970 UTC.
        used_at: when it was last used, as far as it was noted.
    """

    sha256: bytes
    token_sha256: bytes
    created_at: int
    used_at: int


@dataclass(frozen=True, slots=True)
class Noted:
    """What happened to sessions since that was last noted.

    Attributes:
        used: when each was last used, by its ``sha256``.
        over: ``sha256`` of those that have ended.
    """

    used: dict[bytes, int]
    over: tuple[bytes, ...]


def all_sessions(connection: Connection) -> list[Session]:
    """Return all sessions, also those that have been idle for too long."""
    return [Session(*row) for row in connection.execute(select(sessions))]


def add_sessions(connection: Connection, items: list[Session]) -> list[None]:
    """Store new sessions; again does nothing more."""
    _remove(connection, [session.sha256 for session in items])
    rows = [{name: getattr(session, name) for name in Session.__slots__} for session in items]
    connection.execute(insert(sessions), rows)
    return [None] * len(items)


def end_sessions(connection: Connection, items: list[bytes]) -> list[None]:
    """Remove sessions, by their ``sha256``."""
    _remove(connection, items)
    return [None] * len(items)


def note_sessions(connection: Connection, items: list[Noted]) -> list[None]:
    """Store when sessions were last used; remove those that are over."""
    statement = (
        update(sessions)
        .where(sessions.c.sha256 == bindparam("which"))
        .values(used_at=bindparam("at"))
    )
    for item in items:
        _remove(connection, item.over)
        if item.used:
            rows = [{"which": sha256, "at": at} for sha256, at in item.used.items()]
            connection.execute(statement, rows)
    return [None] * len(items)


def forget_all_sessions(connection: Connection) -> None:
    """Remove every session."""
    connection.execute(delete(sessions))


def _remove(connection: Connection, gone: Iterable[bytes]) -> None:
    for sha256 in gone:
        connection.execute(delete(sessions).where(sessions.c.sha256 == sha256))
