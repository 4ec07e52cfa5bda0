"""New commands on their way into the database, and what becomes of them there.

`store.queries.commands.Inserter` stores them.
"""

from dataclasses import dataclass, replace
from uuid import UUID

from scriptservice.errors import BusyError, IdempotencyMismatchError
from scriptservice.model import Command, Origin, Status, Submission, WaitingFor
from scriptservice.store.queries.queueing.concurrency_keys import Admission


@dataclass(frozen=True, slots=True)
class NewCommand:
    """A command that is about to be stored.

    Attributes:
        id: id of the command.
        submission: what was submitted.
        origin: where the submission comes from.
        created_at: time of submission, in microseconds since 1970 UTC.
        rerun_of: id of the command that this command repeats, or None.
        host: name of the host where the command must run or will run; None if that is not decided.
        dispatched_to: identity of the keeper that gets the command right after the commit; None if
            the command first waits in the database. A command whose concurrency key is busy waits
            even if this is not None.
    """

    id: UUID
    submission: Submission
    origin: Origin
    created_at: int
    rerun_of: UUID | None
    host: str | None
    dispatched_to: str | None

    def to_command(self, number: int) -> Command:
        """Return the command as the database stores it under a number."""
        stdin = self.submission.stdin
        return Command(
            number=number,
            id=self.id,
            submission=self.submission,
            status=Status.QUEUED,
            host=self.host,
            created_by=self.origin.created_by,
            rerun_of=self.rerun_of,
            created_at=self.created_at,
            stdin_bytes=0 if stdin is None else len(stdin.encode()),
            traceparent=self.origin.traceparent,
            waiting_for=WaitingFor.CAPACITY if self.dispatched_to is None else None,
        )

    def admitted(self, admission: Admission) -> "NewCommand":
        """Return the command as it is stored after a decision: perhaps without a dispatch mark."""
        if admission.marked:
            return self
        return replace(self, dispatched_to=None, host=self.submission.host)

    def stored_as(self, number: int, admission: Admission | None) -> "StoredCommand":
        """Return the result of storing the command under a number.

        Args:
            number: the number.
            admission: the decision about a command that has a concurrency key, else None.
        """
        if admission is None:
            return self.to_command(number)
        return AdmittedCommand.of(self.admitted(admission).to_command(number), admission)


@dataclass(frozen=True, slots=True)
class AdmittedCommand:
    """A command with a concurrency key that was stored.

    Attributes:
        command: the command as it is stored.
        admission: the decision about it, and the stops that it has caused.
    """

    command: Command
    admission: Admission

    @classmethod
    def of(cls, command: Command, admission: Admission) -> "AdmittedCommand":
        """Return a command and the decision, from which follows what the command waits for."""
        if not admission.key_is_free:
            command = replace(command, waiting_for=WaitingFor.CONCURRENCY)
        return cls(command, admission)


@dataclass(frozen=True, slots=True)
class RepeatedRequest:
    """A request that was handled before; nothing was stored for it now.

    Attributes:
        command_id: id of the command that the request created when it was handled. The command may
            have been deleted since.
    """

    command_id: UUID


StoredCommand = Command | AdmittedCommand
"""A command that was stored: an `AdmittedCommand` exactly if it has a concurrency key."""

InsertResult = StoredCommand | RepeatedRequest | IdempotencyMismatchError | BusyError
"""The stored command, or why no command was stored."""
