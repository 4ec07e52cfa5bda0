"""The errors that callers act on, as one tree.

::

    ScriptServiceError
    ├── ConfigurationError     the service cannot start with its configuration
    ├── ValidationError        a request has invalid fields; .errors
    ├── UnknownCommandError    no command has this id
    ├── AlreadyFinishedError   the command has finished; .command
    ├── NotFinishedError       the command has not finished
    ├── NotInteractiveError    the command takes no input
    ├── NotRunningError        the command does not run now, or its input was closed
    ├── OffsetMismatchError    input was accepted that the client does not count; .offset
    ├── InputFullError         too much input waits to be read by the script
    ├── HostUnavailableError   the keeper does not answer; a retry may succeed
    ├── GoneError              the command that an earlier request created has been deleted
    ├── IdempotencyMismatchError   the Idempotency-Key belongs to a different request
    ├── DamagedOutputError     stored output of a command is damaged
    ├── BusyError              the concurrency key is busy, and the command must not wait
    └── StoreError
        ├── StoreUnavailableError   the database does not answer; a retry may succeed
        │   ├── OtherWriterError    another server writes to the database
        │   └── TablesInUseError    another client locks tables that a migration must change
        └── StorageFullError        the disk has less free space than the service must keep free

``server/http/problem_responses.py`` maps these errors to HTTP answers.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scriptservice.model import Command


class ScriptServiceError(Exception):
    """An error that a caller can act on; its text is written for people."""


class ConfigurationError(ScriptServiceError):
    """The service cannot start with its configuration."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of a request.

    Attributes:
        field: path of the field, such as ``labels.team`` or ``args.0``.
        message: what is wrong. A message that begins with a capital letter is a sentence of its
            own. Other messages continue the name of the field, such as "must be a number".
    """

    field: str
    message: str

    def __str__(self) -> str:
        """Return a message that makes sense without the field beside it."""
        return self.message if self.message[:1].isupper() else f"{self.field}: {self.message}"


class ValidationError(ScriptServiceError):
    """A request has invalid fields.

    Attributes:
        errors: the invalid fields, at least one.
    """

    def __init__(self, *errors: FieldError) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = errors


class UnknownCommandError(ScriptServiceError):
    """No command has this id."""

    def __init__(self, command_id: object) -> None:
        super().__init__(f"cannot find command {command_id}")


class AlreadyFinishedError(ScriptServiceError):
    """The command has finished, so it cannot be stopped, and nobody can attach to it.

    Args:
        command: the command as it is now.
        action: what cannot be done, for the message.

    Attributes:
        command: the command as it is now.
    """

    def __init__(self, command: "Command", action: str = "stop") -> None:
        super().__init__(
            f"cannot {action} command {command.id}: it has finished ({command.status})"
        )
        self.command = command


class NotFinishedError(ScriptServiceError):
    """The command has not finished, so it cannot be deleted."""

    def __init__(self, command_id: object) -> None:
        super().__init__(f"cannot delete command {command_id}: it has not finished; stop it first")


class NotInteractiveError(ScriptServiceError):
    """The command was not submitted as interactive, so it takes no input."""

    def __init__(self, command_id: object) -> None:
        super().__init__(
            f"cannot send input to command {command_id}: it is not interactive; "
            "submit it with interactive or pty"
        )


class NotRunningError(ScriptServiceError):
    """The command does not run now, or its script reads no more input."""


class OffsetMismatchError(ScriptServiceError):
    """The offset of a request is not the number of bytes that were accepted so far.

    Attributes:
        offset: the number of bytes of input that were accepted so far.
    """

    def __init__(self, command_id: object, offset: int) -> None:
        super().__init__(
            f"cannot send input to command {command_id}: {offset} bytes were accepted so far; "
            "continue with that offset"
        )
        self.offset = offset


class InputFullError(ScriptServiceError):
    """Too much accepted input waits until the script reads it; nothing was accepted."""

    def __init__(self, command_id: object, waiting_bytes: int) -> None:
        super().__init__(
            f"cannot send input to command {command_id} now: {waiting_bytes} bytes wait until "
            "its script reads them; send it again later"
        )


class HostUnavailableError(ScriptServiceError):
    """The keeper does not answer; a retry may succeed."""


class GoneError(ScriptServiceError):
    """The command that an earlier request with this Idempotency-Key created has been deleted."""

    def __init__(self, command_id: object) -> None:
        super().__init__(f"command {command_id} has been deleted")


class IdempotencyMismatchError(ScriptServiceError):
    """The Idempotency-Key belongs to a different request."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"cannot use Idempotency-Key {key} again: it belongs to a different request"
        )


class DamagedOutputError(ScriptServiceError):
    """Stored output of a command is damaged, so that it cannot be read; a retry does not help.

    Attributes:
        command_id: the command.
    """

    def __init__(self, command_id: object, position: int, cause: str) -> None:
        super().__init__(
            f"cannot read the output of command {command_id}: the chunk that the database has at "
            f"position {position} is damaged ({cause}); the rest can be read around it"
        )
        self.command_id = command_id


class BusyError(ScriptServiceError):
    """The concurrency key of a new command is busy, and the command must not wait."""

    def __init__(self, key: str, limit: int) -> None:
        most = "one command" if limit == 1 else f"{limit} commands"
        super().__init__(
            f"cannot submit the command: concurrency key {key} already has {most} queued, running "
            "or stopping, which is its limit; try again when one has ended"
        )


class StoreError(ScriptServiceError):
    """The database did not carry out a request."""


class StoreUnavailableError(StoreError):
    """The database does not answer; a retry may succeed."""


class OtherWriterError(StoreUnavailableError):
    """Another server writes to the database."""


class TablesInUseError(StoreUnavailableError):
    """Another client locks tables that a migration must change."""


class StorageFullError(StoreError):
    """The disk has less free space than the service must keep free."""
