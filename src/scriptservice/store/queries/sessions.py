"""Sessions: who is signed in to the web page.

The database has only the hash of a session's cookie and the hash of the token that signed in. The
server keeps all sessions in memory and reads them from the database only when it starts.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from scriptservice.store.database.tables import sessions


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session as the database stores it.

    Attributes:
        sha256: SHA-256 of the secret in the session's cookie.
        token_sha256: SHA-256 of the token that signed in; the session ends when that token is
            removed or replaced.
        created_at: time of signing in, in microseconds since 1970 UTC.
        used_at: time of the last stored use, in microseconds since 1970 UTC.
    """

    sha256: bytes
    token_sha256: bytes
    created_at: int
    used_at: int


@dataclass(frozen=True, slots=True)
class SessionUpdate:
    """Changes of sessions that are not stored yet.

    Attributes:
        used_at: for each session that was used, by its ``sha256``, the time of its last use in
            microseconds since 1970 UTC.
        ended: ``sha256`` of each session that has ended.
    """

    used_at: dict[bytes, int]
    ended: tuple[bytes, ...]


def all_sessions(connection: Connection) -> list[StoredSession]:
    """Return all sessions, including those that have been idle for too long."""
    return [StoredSession(*row) for row in connection.execute(select(sessions))]


def add_sessions(connection: Connection, items: list[StoredSession]) -> list[None]:
    """Store new sessions. If the writer repeats this job, it replaces the sessions it stored."""
    _remove(connection, [session.sha256 for session in items])
    rows = [{name: getattr(session, name) for name in StoredSession.__slots__} for session in items]
    connection.execute(insert(sessions), rows)
    return [None] * len(items)


def delete_sessions(connection: Connection, items: list[bytes]) -> list[None]:
    """Remove the sessions that have the given ``sha256``."""
    _remove(connection, items)
    return [None] * len(items)


def update_sessions(connection: Connection, items: list[SessionUpdate]) -> list[None]:
    """Store the last use of each session that was used, and remove the sessions that have ended."""
    statement = (
        update(sessions)
        .where(sessions.c.sha256 == bindparam("which"))
        .values(used_at=bindparam("at"))
    )
    for item in items:
        _remove(connection, item.ended)
        if item.used_at:
            rows = [{"which": sha256, "at": at} for sha256, at in item.used_at.items()]
            connection.execute(statement, rows)
    return [None] * len(items)


def delete_all_sessions(connection: Connection) -> None:
    """Remove every session."""
    connection.execute(delete(sessions))


def _remove(connection: Connection, ended: Iterable[bytes]) -> None:
    for sha256 in ended:
        connection.execute(delete(sessions).where(sessions.c.sha256 == sha256))
