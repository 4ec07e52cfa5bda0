"""What the fleet tells of once it is stored, to whoever wakes followers, counts or logs."""

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from scriptservice.model import Outcome, Status


class Step(NamedTuple):
    """A command's change of status, just stored; a replay of the journal does not tell it again.

    Attributes:
        command: its id.
        status: what it became.
        outcome: all that is known of its run now, which may be later than this step.
        created_at: microseconds since 1970 UTC; None where nobody looked.
        sent_at: when it was sent to its keeper, likewise; None if another server did.
    """

    command: UUID
    status: Status
    outcome: Outcome
    created_at: int | None = None
    sent_at: int | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What has just been stored.

    Attributes:
        changed: commands with new output or another status.
        ended: those of them that are final now, or were given back by their keeper.
        given_back: those that wait again, or were stopped while they were given back.
        steps: all changes of status, of each command in order.
        stdout_bytes: how much new output.
        stderr_bytes: likewise.
    """

    changed: frozenset[UUID]
    ended: frozenset[UUID]
    given_back: frozenset[UUID]
    steps: tuple[Step, ...] = ()
    stdout_bytes: int = 0
    stderr_bytes: int = 0
