"""Idempotency keys: which request created which command. A key is kept for a day."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, delete, insert, select

from scriptservice.model import IdempotencyKey
from scriptservice.store.database.tables import idempotency_keys as keys

RETENTION_MICROSECONDS = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """An earlier request with an idempotency key.

    Attributes:
        fingerprint: SHA-256 of the request's content.
        command_id: id of the command that the request created. The command may have been deleted
            since.
    """

    fingerprint: bytes
    command_id: UUID


def find_request(connection: Connection, request: IdempotencyKey, at: int) -> StoredRequest | None:
    """Return the request that had the same key within the last day; None if no request had it.

    Args:
        connection: connection to read from.
        request: key of the current request.
        at: time of the current request, in microseconds since 1970 UTC.
    """
    query = select(keys.c.fingerprint, keys.c.command).where(
        keys.c.token == request.token,
        keys.c.key == request.key,
        keys.c.created_at > at - RETENTION_MICROSECONDS,
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else StoredRequest(row.fingerprint, row.command)


def store_requests(connection: Connection, made: list[tuple[IdempotencyKey, UUID, int]]) -> None:
    """Store which requests created which commands, in the transaction that stores the commands.

    Args:
        connection: connection to write to.
        made: for each request its key, the command's id, and the time of the request in
            microseconds since 1970 UTC.
    """
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


def delete_old_requests(connection: Connection, items: list[int]) -> list[int]:
    """Remove keys that are older than a day.

    Args:
        connection: connection to write to.
        items: the current time of each caller, in microseconds since 1970 UTC.

    Returns:
        For each item the number of keys that were removed.
    """
    return [
        connection.execute(
            delete(keys).where(keys.c.created_at <= now - RETENTION_MICROSECONDS)
        ).rowcount
        for now in items
    ]
