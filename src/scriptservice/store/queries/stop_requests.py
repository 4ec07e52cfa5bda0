"""What users ask of stored commands: that they stop, that they are gone.

Functions that take a list of items are jobs of the writer.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, delete, func, select, update

from scriptservice.errors import AlreadyFinishedError, NotFinishedError, UnknownCommandError
from scriptservice.model import Command, Status
from scriptservice.store.database.tables import commands, inputs, labels, output
from scriptservice.store.queries.commands import extent, find
from scriptservice.store.queries.dispatching import Ending, end_unstarted

_DELETE_CHUNKS = 64


@dataclass(frozen=True, slots=True)
class StopRequest:
    """A wish to stop a command.

    Attributes:
        id: the command's.
        signal: its full name.
        grace_seconds: None for the command's own.
        at: microseconds since 1970 UTC.
    """

    id: UUID
    signal: str
    grace_seconds: float | None
    at: int


StopResult = Command | AlreadyFinishedError | UnknownCommandError
"""The command as it is after the wish is kept, or why it cannot be stopped."""


def request_stop(connection: Connection, items: list[StopRequest]) -> list[StopResult]:
    """Keep wishes to stop, so that they outlive the server; end at once what never started.

    Returns:
        The command as it is then, or why it cannot be stopped.
    """
    return [_request_stop(connection, item) for item in items]


def _request_stop(connection: Connection, item: StopRequest) -> StopResult:
    try:
        command = find(connection, item.id)
    except UnknownCommandError as error:
        return error
    if command.status.final:
        if command.status is Status.STOPPED and command.outcome.finished_at == item.at:
            return command  # by this very item, in a commit that nobody heard of
        return AlreadyFinishedError(command)
    reason = "stopped before it started"
    ending = Ending(command.number, Status.STOPPED, reason, item.at)
    if command.status is not Status.QUEUED or not end_unstarted(connection, [ending])[0]:
        asked = command.submission.grace_seconds
        grace = asked if item.grace_seconds is None else item.grace_seconds
        connection.execute(
            update(commands)
            .where(
                commands.c.number == command.number,
                commands.c.stop_signal.is_(None) | (commands.c.stop_grace_seconds > grace),
            )
            .values(
                stop_signal=func.coalesce(commands.c.stop_signal, item.signal),
                stop_grace_seconds=grace,
            )
        )
    return find(connection, item.id)


@dataclass(frozen=True, slots=True)
class Deletion:
    """A wish to delete a finished command."""

    id: UUID
    at: int


DeletionResult = int | NotFinishedError | UnknownCommandError
"""The number of what is deleted, or why it cannot be."""


def mark_deleted(connection: Connection, items: list[Deletion]) -> list[DeletionResult]:
    """Let finished commands be gone for everyone; return their numbers or why not."""
    results: list[DeletionResult] = []
    for item in items:
        try:
            found = extent(connection, item.id)
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
    """Return the command that this very item deleted, in a commit that nobody heard of."""
    query = select(commands.c.number).where(
        commands.c.id == item.id, commands.c.deleted_at == item.at
    )
    number: int | None = connection.execute(query).scalar()
    return number


def deleted_numbers(connection: Connection) -> list[int]:
    """Return the commands that are deleted but not yet removed."""
    query = select(commands.c.number).where(commands.c.deleted_at.is_not(None))
    return list(connection.execute(query).scalars())


def remove_some(connection: Connection, items: list[int]) -> list[bool]:
    """Remove a bounded part of deleted commands; return for each whether it is all gone."""
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
