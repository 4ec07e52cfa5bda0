"""The events that `life.step` takes: what can happen to a command."""

from enum import Enum, auto
from typing import Any, NamedTuple


class Started(NamedTuple):
    """The process has become the script."""


class NotStarted(NamedTuple):
    """The process could not become the script.

    Attributes:
        reason: why, as text for users.
        retry: whether a later attempt may succeed.
    """

    reason: str
    retry: bool


class StopRequested(NamedTuple):
    """A client, the time-out, the output limit or a shutdown wants to stop the script.

    Attributes:
        cause: stop (by a client), timeout, limit or shutdown.
        signal: the signal for the script's process group.
        grace_seconds: the time from now until the script's whole process tree gets SIGKILL.
    """

    cause: str
    signal: int
    grace_seconds: float


class Exited(NamedTuple):
    """The script's own process was reaped.

    Attributes:
        fields: the payload of the record EXITED.
    """

    fields: dict[str, Any]


class Woke(NamedTuple):
    """The time `Life.wake_at` has come."""


class Looked(NamedTuple):
    """The result of `Look`.

    Attributes:
        empty: whether no process of the tree is alive.
    """

    empty: bool


class LeftoversSignalled(NamedTuple):
    """The result of `SignalLeftovers`.

    Attributes:
        found: whether any process was signalled.
    """

    found: bool


class Killed(NamedTuple):
    """The result of `KillTree`.

    Attributes:
        empty: whether no process of the tree is alive.
        unkillable: see `Life`.
    """

    empty: bool
    unkillable: str = ""


class CannotLook(NamedTuple):
    """The keeper was too short of descriptors or memory to look at the tree."""


class DrainResult(Enum):
    """The result of an attempt to read all pipes to their ends."""

    ENDED = auto()
    PAUSED = auto()
    """A pipe is paused until the journal takes more output; then `OutputProgressed` follows."""
    OPEN = auto()
    """A process still has the write end of a pipe open; perform `Drain` again later."""


class Drained(NamedTuple):
    """The result of `Drain`."""

    result: DrainResult


class OutputProgressed(NamedTuple):
    """A pipe has ended, or is read again after a pause."""


class Removed(NamedTuple):
    """The private directory is gone, or cannot be removed now."""


Event = (
    Started
    | NotStarted
    | StopRequested
    | Exited
    | Woke
    | Looked
    | LeftoversSignalled
    | Killed
    | CannotLook
    | Drained
    | OutputProgressed
    | Removed
)
