"""The actions that `life.step` returns: what the keeper must do next for a command.

`RunningCommand` performs the actions in the order of the list. An action that looks at processes or
pipes has a result, which is the next event of the life. The tree of a command is the script's own
process and all processes that descend from it. Words in capitals are kinds of journal records, see
`journal_format.Kind`; SIGTERM, SIGCONT and SIGKILL are signals.
"""

from typing import Any, NamedTuple


class RecordStarted(NamedTuple):
    """Append STARTED."""


class ReadOutput(NamedTuple):
    """Begin to read the output."""


class Refuse(NamedTuple):
    """Append REFUSED, close the command's descriptors, and remove its private directory.

    Attributes:
        reason: why the command was not started, as text for users.
        retry: whether the server may send the command again.
        stopped: whether a client stopped the command before its script started.
    """

    reason: str
    retry: bool
    stopped: bool


class RecordStopping(NamedTuple):
    """Append STOPPING.

    Attributes:
        cause: see `StopRequested`.
        signal: the signal that the script's process group gets next.
    """

    cause: str
    signal: int


class SignalGroup(NamedTuple):
    """Send a signal to the script's process group."""

    signal: int


class KillProcess(NamedTuple):
    """Send SIGKILL to the script's own process, which may not have become the script yet."""


class RecordExited(NamedTuple):
    """Append EXITED with these fields."""

    fields: dict[str, Any]


class Look(NamedTuple):
    """Find out whether a process of the tree is alive; the result is `Looked` or `CannotLook`."""


class SignalLeftovers(NamedTuple):
    """Send SIGTERM and SIGCONT to all processes of the tree.

    The result is `LeftoversSignalled` or `CannotLook`.
    """


class KillTree(NamedTuple):
    """Send SIGKILL to all processes of the tree; the result is `Killed` or `CannotLook`."""


class Drain(NamedTuple):
    """Read the pipes to their ends; the result is `Drained`.

    Attributes:
        deadline: a time of the monotonic clock, in seconds. From then on, a pipe is closed even if
            a process still has its write end open.
    """

    deadline: float


class RemoveDirectory(NamedTuple):
    """Begin to remove the command's private directory; the event `Removed` follows later."""


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
