"""Notifications of changes that were just stored, for followers, metrics and the log."""

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from scriptservice.model import Outcome, Status


class StatusChange(NamedTuple):
    """A change of a command's status that was just stored.

    If a journal record is read again after it was stored, there is no second notification.

    Attributes:
        command_id: id of the command.
        status: new status of the command.
        outcome: all that is known about the command's run now. This may include events after this
            change.
        created_at: time of submission, in microseconds since 1970 UTC; None if unknown.
        sent_at: when this server sent the command to the keeper, in microseconds since 1970 UTC;
            None if this server did not send the command.
    """

    command_id: UUID
    status: Status
    outcome: Outcome
    created_at: int | None = None
    sent_at: int | None = None


@dataclass(frozen=True, slots=True)
class StoredChanges:
    """Changes that were just stored in one transaction.

    Attributes:
        changed: ids of commands with new output or a new status.
        ended: ids of the commands that are final now or were given back by their keeper.
        given_back: ids of the commands that their keeper gave back. Each of these commands waits
            again, or is stopped now if a stop was requested.
        status_changes: all status changes; the changes of one command are in order.
        stdout_bytes: size of the new output on stdout.
        stderr_bytes: size of the new output on stderr.
    """

    changed: frozenset[UUID]
    ended: frozenset[UUID]
    given_back: frozenset[UUID]
    status_changes: tuple[StatusChange, ...] = ()
    stdout_bytes: int = 0
    stderr_bytes: int = 0
