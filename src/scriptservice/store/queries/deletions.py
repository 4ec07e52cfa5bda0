"""Deletions of finished commands: a command is marked at once, and later removed in bounded parts.

Functions that take a list of items are jobs of the writer.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, bindparam, delete, select, update

from scriptservice.errors import NotFinishedError, UnknownCommandError
from scriptservice.model import FINAL
from scriptservice.store.database.tables import commands, inputs, labels, output
from scriptservice.store.queries.command_rows import THERE
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


@dataclass(frozen=True, slots=True)
class Pruning:
    """A request of the service itself to delete some commands, because they are the oldest.

    Attributes:
        numbers: numbers of the commands.
        at: time of the request, in microseconds since 1970 UTC.
    """

    numbers: tuple[int, ...]
    at: int


def mark_pruned(connection: Connection, items: list[Pruning]) -> list[frozenset[int]]:
    """Mark commands as deleted, without those that are not finished or are deleted already.

    Returns:
        For each item the numbers of the commands that this item has marked, also if an earlier call
        marked them in a commit whose answer was lost.
    """
    return [_mark_pruned(connection, item) for item in items]


def _mark_pruned(connection: Connection, item: Pruning) -> frozenset[int]:
    wanted = commands.c.number.in_(item.numbers)
    connection.execute(
        update(commands)
        .where(wanted, commands.c.status.in_(sorted(FINAL)), THERE)
        .values(deleted_at=item.at)
    )
    query = select(commands.c.number).where(wanted, commands.c.deleted_at == item.at)
    marked = frozenset(connection.execute(query).scalars())
    connection.execute(delete(labels).where(labels.c.number.in_(marked)))
    return marked


def deleted_numbers(connection: Connection) -> list[int]:
    """Return the numbers of commands that are marked as deleted but not completely removed yet."""
    query = select(commands.c.number).where(commands.c.deleted_at.is_not(None))
    return list(connection.execute(query).scalars())


def remove_some(connection: Connection, items: list[int]) -> list[bool]:
    """Remove a bounded part of some deleted commands, together at most `_DELETE_CHUNKS` chunks.

    Args:
        connection: connection to write to.
        items: numbers of the deleted commands.

    Returns:
        For each command whether it is now completely removed.
    """
    some = (
        select(output.c.number, output.c.position)
        .where(output.c.number.in_(items))
        .order_by(output.c.number, output.c.position)
        .limit(_DELETE_CHUNKS)
    )
    found = connection.execute(some).all()
    ends = {row.number: row.position for row in found}
    if ends:
        connection.execute(
            _DELETE_OUTPUT, [{"the_number": number, "end": end} for number, end in ends.items()]
        )
    removed = set(items)
    if len(found) == _DELETE_CHUNKS:
        # The last command found, and those after it, may have more chunks.
        removed = {number for number in items if number < found[-1].number}
    connection.execute(delete(inputs).where(inputs.c.number.in_(removed)))
    connection.execute(delete(commands).where(commands.c.number.in_(removed)))
    return [number in removed for number in items]


_DELETE_OUTPUT = delete(output).where(
    output.c.number == bindparam("the_number"), output.c.position <= bindparam("end")
)
