"""The errors that a caller acts on, as one tree.

::

    ScriptServiceError
    ├── ConfigurationError     the service cannot start as it is told to
    ├── ValidationError        a request says something that cannot be; .errors by field
    ├── UnknownCommandError    there is no command of that id
    ├── AlreadyFinishedError   the command has ended; .command
    ├── NotFinishedError       the command has not ended
    ├── GoneError              what a repeated request made has been deleted
    ├── IdempotencyMismatchError   another request had this Idempotency-Key
    └── StoreError
        ├── StoreUnavailableError   the database does not answer; worth another try
        │   ├── OtherWriterError    another server writes to it
        │   └── TablesInUseError    its schema cannot be changed at the moment
        └── StorageFullError        the disk has less room than is kept free

``server.problems`` maps them to HTTP, in one place.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scriptservice.model import Command


class ScriptServiceError(Exception):
    """Something that a caller can act on; its text is for a person."""


class ConfigurationError(ScriptServiceError):
    """The service cannot start as it is told to."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of a request.

    Attributes:
        field: its path, such as ``labels.team`` or ``args.0``.
        message: one plain sentence.
    """

    field: str
    message: str


class ValidationError(ScriptServiceError):
    """A request says something that cannot be.

    Attributes:
        errors: what is wrong, at least one.
    """

    def __init__(self, *errors: FieldError) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors))
        self.errors = errors


class UnknownCommandError(ScriptServiceError):
    """There is no command of that id."""

    def __init__(self, command: object) -> None:
        super().__init__(f"cannot find command {command}")


class AlreadyFinishedError(ScriptServiceError):
    """The command has ended.

    Attributes:
        command: as it is now.
    """

    def __init__(self, command: "Command") -> None:
        super().__init__(f"cannot stop command {command.id}: it is {command.status}")
        self.command = command


class NotFinishedError(ScriptServiceError):
    """The command has not ended."""

    def __init__(self, command: object) -> None:
        super().__init__(f"cannot delete command {command}: it is not finished; stop it first")


class GoneError(ScriptServiceError):
    """What a repeated request made has been deleted."""

    def __init__(self, command: object) -> None:
        super().__init__(f"cannot find command {command} any more: it has been deleted")


class IdempotencyMismatchError(ScriptServiceError):
    """Another request had this Idempotency-Key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"cannot use Idempotency-Key {key} again: that request said otherwise")


class StoreError(ScriptServiceError):
    """The database did not do what it was asked."""


class StoreUnavailableError(StoreError):
    """The database does not answer; worth another try."""


class OtherWriterError(StoreUnavailableError):
    """Another server writes to the database."""


class TablesInUseError(StoreUnavailableError):
    """Somebody keeps tables whose schema is to be changed."""


class StorageFullError(StoreError):
    """The disk has less room than is kept free."""
