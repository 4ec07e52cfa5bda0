"""Requests to stop commands, stored so that they outlive the server."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, func, update

from scriptservice.errors import AlreadyFinishedError, UnknownCommandError
from scriptservice.model import Command, Status
from scriptservice.store.database.tables import commands
from scriptservice.store.queries.commands import find
from scriptservice.store.queries.dispatching import STOPPED_BEFORE_START, Ending, end_unstarted


@dataclass(frozen=True, slots=True)
class StopRequest:
    """A request to stop a command.

    Attributes:
        id: id of the command.
        signal: full name of the signal, such as ``SIGTERM``.
        grace_seconds: time between the signal and SIGKILL; None for the command's own
            ``grace_seconds``.
        at: time of the request, in microseconds since 1970 UTC.
    """

    id: UUID
    signal: str
    grace_seconds: float | None
    at: int


StopResult = Command | AlreadyFinishedError | UnknownCommandError
"""The command as it is after the request, or the reason why the command cannot be stopped."""


def request_stop(connection: Connection, items: list[StopRequest]) -> list[StopResult]:
    """Store requests to stop. A command that was not dispatched yet ends at once.

    Returns:
        For each item the command as it is after the request, or the reason why the command cannot
        be stopped.
    """
    return [_request_stop(connection, item) for item in items]


def _request_stop(connection: Connection, item: StopRequest) -> StopResult:
    try:
        command = find(connection, item.id)
    except UnknownCommandError as error:
        return error
    if command.status.final:
        if command.status is Status.STOPPED and command.outcome.finished_at == item.at:
            # This item already stopped the command, in a commit whose answer was lost.
            return command
        return AlreadyFinishedError(command)
    ending = Ending(command.number, Status.STOPPED, STOPPED_BEFORE_START, item.at)
    if command.status is not Status.QUEUED or not end_unstarted(connection, [ending])[0]:
        grace = item.grace_seconds
        if grace is None:
            grace = command.submission.grace_seconds
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
