"""Idempotency-Keys in the database: which request made which command, for a day."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, delete, insert, select

from scriptservice.model import RequestKey
from scriptservice.store.database.tables import idempotency_keys as keys

KEPT_MICROSECONDS = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """What is kept of such a request.

    Attributes:
        fingerprint: SHA-256 of what it said.
        command: what it made; that may be deleted meanwhile.
    """

    fingerprint: bytes
    command: UUID


def find_request(connection: Connection, request: RequestKey, at: int) -> KeptRequest | None:
    """Return the request that had this key within the last day, None if there was none.

    Args:
        connection: to read from.
        request: the one that came now.
        at: when, microseconds since 1970 UTC.
    """
    query = select(keys.c.fingerprint, keys.c.command).where(
        keys.c.token == request.token,
        keys.c.key == request.key,
        keys.c.created_at > at - KEPT_MICROSECONDS,
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else KeptRequest(row.fingerprint, row.command)


def keep_requests(connection: Connection, made: list[tuple[RequestKey, UUID, int]]) -> None:
    """Keep which requests made which commands, and when, with the commands themselves."""
    for request, _, _ in made:
        connection.execute(
            delete(keys).where(keys.c.token == request.token, keys.c.key == request.key)
        )
    rows = [
        {
            "token": request.token,
            "key": request.key,
            "fingerprint": request.fingerprint,
            "command": command,
            "created_at": at,
        }
        for request, command, at in made
    ]
    connection.execute(insert(keys), rows)


def forget_old_requests(connection: Connection, items: list[int]) -> list[int]:
    """Remove keys older than a day.

    Args:
        connection: to write to.
        items: what time it is, microseconds since 1970 UTC.

    Returns:
        How many, for each.
    """
    return [
        connection.execute(
            delete(keys).where(keys.c.created_at <= now - KEPT_MICROSECONDS)
        ).rowcount
        for now in items
    ]
