"""Notifications of changes that were just stored, for followers, metrics and the log."""

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from scriptservice.model import Outcome, Status


class StatusChange(NamedTuple):
    """A change of a command's status that was just stored; a replay does not notify again.

    Attributes:
        command_id: id of the command.
        status: its new status.
        outcome: all that is known about its run now, which may be later than this change.
        created_at: time of submission, in microseconds since 1970 UTC; None if not looked up.
        sent_at: when it was sent to its keeper, likewise; None if another server sent it.
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
        ended: ids of those that are final now, or were given back by their keeper.
        given_back: ids of those that were given back: they wait again or became stopped.
        status_changes: all changes of status, in order for each command.
        stdout_bytes: amount of new output on stdout.
        stderr_bytes: amount of new output on stderr.
    """

    changed: frozenset[UUID]
    ended: frozenset[UUID]
    given_back: frozenset[UUID]
    status_changes: tuple[StatusChange, ...] = ()
    stdout_bytes: int = 0
    stderr_bytes: int = 0
