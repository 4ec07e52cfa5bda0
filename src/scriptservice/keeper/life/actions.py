"""What a command's life wants done: the actions that `life.step` returns.

`RunningCommand` performs them in their order. The actions that look at processes or pipes have a
result, which is the next event.
"""

from typing import Any, NamedTuple


class RecordStarted(NamedTuple):
    """Append STARTED."""


class ReadOutput(NamedTuple):
    """Begin to read the output."""


class Refuse(NamedTuple):
    """Append REFUSED, and undo the start.

    Attributes:
        reason: why the command was not started, as text for users.
        retry: whether the server may send the command again.
        stopped: whether it was stopped before it started.
    """

    reason: str
    retry: bool
    stopped: bool


class RecordStopping(NamedTuple):
    """Append STOPPING.

    Attributes:
        cause: see `StopRequested`.
        signal: the signal that follows.
    """

    cause: str
    signal: int


class SignalGroup(NamedTuple):
    """Signal the script's process group."""

    signal: int


class KillProcess(NamedTuple):
    """Send SIGKILL to the script's own process, which may not have become the script yet."""


class RecordExited(NamedTuple):
    """Append EXITED with these fields."""

    fields: dict[str, Any]


class Look(NamedTuple):
    """Look whether the tree is empty; the result is `Looked` or `CannotLook`."""


class SignalLeftovers(NamedTuple):
    """Send SIGTERM and SIGCONT to all processes of the tree.

    The result is `LeftoversSignalled` or `CannotLook`.
    """


class KillTree(NamedTuple):
    """Send SIGKILL to all processes of the tree; the result is `Killed` or `CannotLook`."""


class Drain(NamedTuple):
    """Read the pipes to their ends; the result is `Drained`.

    Attributes:
        deadline: from this time on, a pipe is closed although somebody holds it open.
    """

    deadline: float


class RemoveDirectory(NamedTuple):
    """Begin to remove the private directory; `Removed` follows."""


class RecordClosed(NamedTuple):
    """Append CLOSED; the command has ended."""


class RecordLost(NamedTuple):
    """Append LOST; the command has ended.

    Attributes:
        reason: why the command is lost, as text for users.
    """

    reason: str


Action = (
    RecordStarted
    | ReadOutput
    | Refuse
    | RecordStopping
    | SignalGroup
    | KillProcess
    | RecordExited
    | Look
    | SignalLeftovers
    | KillTree
    | Drain
    | RemoveDirectory
    | RecordClosed
    | RecordLost
)
