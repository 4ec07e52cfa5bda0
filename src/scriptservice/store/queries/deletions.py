"""Deletions of finished commands: a command is marked at once, and later removed in bounded parts.

Functions that take a list of items are jobs of the writer.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, delete, select, update

from scriptservice.errors import NotFinishedError, UnknownCommandError
from scriptservice.store.database.tables import commands, inputs, labels, output
from scriptservice.store.queries.commands import find_extent

_DELETE_CHUNKS = 64


@dataclass(frozen=True, slots=True)
class Deletion:
    """A request to delete a finished command.

    Attributes:
        id: id of the command.
        at: time of the request, in microseconds since 1970 UTC.
    """

    id: UUID
    at: int


DeletionResult = int | NotFinishedError | UnknownCommandError
"""The number of the deleted command, or the reason why it cannot be deleted."""


def mark_deleted(connection: Connection, items: list[Deletion]) -> list[DeletionResult]:
    """Mark finished commands as deleted, so that no reader finds them any more.

    Returns:
        For each item the number of the deleted command, or the reason why the command cannot be
        deleted.
    """
    results: list[DeletionResult] = []
    for item in items:
        try:
            found = find_extent(connection, item.id)
        except UnknownCommandError as error:
            before = _deleted_by(connection, item)
            results.append(error if before is None else before)
            continue
        if not found.finished:
            results.append(NotFinishedError(item.id))
            continue
        connection.execute(
            update(commands).where(commands.c.number == found.number).values(deleted_at=item.at)
        )
        connection.execute(delete(labels).where(labels.c.number == found.number))
        results.append(found.number)
    return results


def _deleted_by(connection: Connection, item: Deletion) -> int | None:
    """Return the number of the command that this item deleted in an earlier commit, else None.

    If the answer to that commit was lost, the writer repeats the item.
    """
    query = select(commands.c.number).where(
        commands.c.id == item.id, commands.c.deleted_at == item.at
    )
    number: int | None = connection.execute(query).scalar()
    return number


def deleted_numbers(connection: Connection) -> list[int]:
    """Return the numbers of commands that are marked as deleted but not completely removed yet."""
    query = select(commands.c.number).where(commands.c.deleted_at.is_not(None))
    return list(connection.execute(query).scalars())


def remove_some(connection: Connection, items: list[int]) -> list[bool]:
    """Remove a bounded part of each deleted command.

    Args:
        connection: connection to write to.
        items: numbers of the deleted commands.

    Returns:
        For each command whether it is now completely removed.
    """
    return [_remove_some(connection, number) for number in items]


def _remove_some(connection: Connection, number: int) -> bool:
    some = (
        select(output.c.position)
        .where(output.c.number == number)
        .order_by(output.c.position)
        .limit(_DELETE_CHUNKS)
    )
    removed = connection.execute(
        delete(output).where(output.c.number == number, output.c.position.in_(some))
    ).rowcount
    if removed == _DELETE_CHUNKS:
        return False
    connection.execute(delete(inputs).where(inputs.c.number == number))
    connection.execute(delete(commands).where(commands.c.number == number))
    return True
