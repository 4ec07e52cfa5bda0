"""The life of one command as a pure state machine: it decides what to do, and does nothing itself.

`step` takes a command's life, an event and the time. It returns the next life, and the actions that
`RunningCommand` performs. Some actions have a result, which is the next event. The phases are::

    STARTING ──────────────▶ RUNNING ───── stop ────▶ STOPPING
       │      the exec is       │                         │
       │      decided           └── the process exits ────┤
       │                                                  ▼
       │ it did not start                              EXITED
       ▼                            other processes are │   │ the tree is empty
     FAILED                         alive in the tree   ▼   │
       │                                        LEFTOVERS   │
       │                         the tree is empty │        │
       │                                           ▼        ▼
       │                                           DRAINING
       │ the process                     every pipe │
       │ exits                           is at its  ▼  no private
       │                                 end    REMOVING  directory
       ▼                                            ▼
     CLOSED ◀───────────────────────────────────────┘

There is one more way to CLOSED, from STOPPING or LEFTOVERS: the whole service stops, and the
command's process tree has a process that the keeper may not signal. Such a command is lost. All
times are times of the monotonic clock, in seconds.
"""

import signal
from collections.abc import Callable
from enum import StrEnum, auto
from typing import Any, NamedTuple

from scriptservice.keeper.life.actions import (
    Action,
    Drain,
    KillProcess,
    KillTree,
    Look,
    ReadOutput,
    RecordClosed,
    RecordExited,
    RecordLost,
    RecordStarted,
    RecordStopping,
    Refuse,
    RemoveDirectory,
    SignalGroup,
    SignalLeftovers,
)
from scriptservice.keeper.life.events import (
    CannotLook,
    Drained,
    DrainResult,
    Event,
    Exited,
    Killed,
    LeftoversSignalled,
    Looked,
    NotStarted,
    OutputProgressed,
    Removed,
    Started,
    StopRequested,
    Woke,
)

DECIDE_SECONDS = 1.0
"""A process whose exec takes longer than this counts as started."""
FAILED_SECONDS = 1.0
"""The keeper waits at most this long for the exit of a process that could not become the script."""
LEFTOVER_KILL_SECONDS = 1.0
"""Processes that the script has left behind get SIGKILL this long after SIGTERM."""
REMOVAL_SECONDS = 10.0
"""The keeper waits at most this long for the removal of the private directory, before CLOSED."""
UNKILLABLE_SECONDS = 1.0
"""At a shutdown, the keeper waits this long after SIGKILL for a process that it may not signal."""
FIRST_LOOK_SECONDS = 0.005
LAST_LOOK_SECONDS = 0.2
"""The pauses between looks at a process tree double, from `FIRST_LOOK_SECONDS` to this value."""


class Phase(StrEnum):
    """The phases of a life; the module's docstring shows how they follow each other."""

    STARTING = auto()
    """The process is made. The keeper does not know yet whether it becomes the script."""
    FAILED = auto()
    """The process could not become the script; it has not been reaped yet."""
    RUNNING = auto()
    STOPPING = auto()
    """A stop has begun; the script's own process has not exited yet."""
    EXITED = auto()
    """The script's own process was reaped. The keeper must look whether the tree is empty."""
    LEFTOVERS = auto()
    """The script's own process was reaped. Other processes of its tree are alive."""
    DRAINING = auto()
    """The tree is gone. The keeper moves the rest of the output from the pipes to the journal."""
    REMOVING = auto()
    """The private directory is being removed."""
    CLOSED = auto()


LIVE_PHASES = frozenset({Phase.STARTING, Phase.FAILED, Phase.RUNNING, Phase.STOPPING})
"""The phases in which the script's own process was not reaped yet."""
_TREE_PHASES = frozenset({Phase.EXITED, Phase.LEFTOVERS})


class Life(NamedTuple):
    """What the state machine knows of a command.

    Attributes:
        phase: the present phase.
        grace_seconds: the command's own grace period.
        leftover_seconds: how long leftovers, the other processes of the tree, may run on after the
            script's exit.
        timeout_seconds: the command's time-out; None for no time-out.
        has_private_directory: whether a directory must be removed before CLOSED.
        cause: why the first stop came: stop, timeout, limit or shutdown; None if there was none.
        signal: the signal of a stop that came while the command was starting.
        wake_at: when the event `Woke` is due; None if the life waits for other events only.
        decide_at: when a starting command counts as started.
        failure: why the process could not become the script, as text for users.
        may_retry: whether the server may send the command again after that failure.
        timeout_at: when the time-out ends; None if the command has no time-out, has not started
            yet, is being stopped or has exited.
        kill_at: when a stop's grace period ends; None if there was no stop.
        killing: whether the keeper now sends SIGKILL to every process of the tree.
        leftover_at: when leftovers get SIGTERM. From then on, the keeper also closes a pipe whose
            write end another process still has open.
        leftovers_signalled: whether leftovers have got SIGTERM.
        look_seconds: the next pause between two looks at the tree.
        shutting_down: whether the whole service stops.
        unkillable: the process that the keeper may not signal, as text; empty if there is none.
    """

    phase: Phase = Phase.STARTING
    grace_seconds: float = 0.0
    leftover_seconds: float = 0.0
    timeout_seconds: float | None = None
    has_private_directory: bool = False
    cause: str | None = None
    signal: int = 0
    wake_at: float | None = None
    decide_at: float = 0.0
    failure: str = ""
    may_retry: bool = False
    timeout_at: float | None = None
    kill_at: float | None = None
    killing: bool = False
    leftover_at: float = 0.0
    leftovers_signalled: bool = False
    look_seconds: float = FIRST_LOOK_SECONDS
    shutting_down: bool = False
    unkillable: str = ""

    @property
    def is_live(self) -> bool:
        """Whether the script's own process was not reaped yet."""
        return self.phase in LIVE_PHASES


def new_life(
    now: float,
    *,
    grace_seconds: float,
    leftover_seconds: float,
    timeout_seconds: float | None,
    has_private_directory: bool,
) -> Life:
    """Return the life of a command whose process was just made; see `Life` for the arguments."""
    return Life(
        grace_seconds=grace_seconds,
        leftover_seconds=leftover_seconds,
        timeout_seconds=timeout_seconds,
        has_private_directory=has_private_directory,
        wake_at=now + DECIDE_SECONDS,
        decide_at=now + DECIDE_SECONDS,
    )


Step = tuple[Life, list[Action]]


def step(life: Life, event: Event, now: float) -> Step:
    """Return the life after an event, and the actions to perform.

    An event that has no meaning in the present phase changes nothing. For example, an exit may be
    reported twice.

    Args:
        life: the life before the event.
        event: what has happened.
        now: the present time.
    """
    if life.phase is Phase.CLOSED:
        return life, []
    return _STEPS[type(event)](life, event, now)


# Starting


def _started(life: Life, _: Started, now: float) -> Step:
    if life.phase is not Phase.STARTING:
        return life, []
    timeout_at = None if life.timeout_seconds is None else now + life.timeout_seconds
    running = life._replace(phase=Phase.RUNNING, timeout_at=timeout_at, wake_at=timeout_at)
    actions: list[Action] = [RecordStarted(), ReadOutput()]
    if life.cause is None:
        return running, actions
    stopping, more = _begin_stop(running, life.cause, life.signal, now)
    return stopping, actions + more


def _not_started(life: Life, event: NotStarted, now: float) -> Step:
    if life.phase is not Phase.STARTING:
        return life, []
    failed = life._replace(
        phase=Phase.FAILED,
        failure=event.reason,
        may_retry=event.retry and life.cause in (None, "shutdown"),
        wake_at=now + FAILED_SECONDS,
    )
    # The process exits by itself after it has reported a failure, unless SIGSTOP has stopped it.
    return failed, [KillProcess()]


def _refuse(life: Life, _: float) -> Step:
    stopped = life.cause == "stop"
    return _closed(life), [Refuse(life.failure, life.may_retry, stopped)]


# Stopping


def _stop(life: Life, event: StopRequested, now: float) -> Step:
    kill_at = now + event.grace_seconds
    if life.kill_at is not None:
        kill_at = min(kill_at, life.kill_at)
    life = life._replace(
        kill_at=kill_at, shutting_down=life.shutting_down or event.cause == "shutdown"
    )
    phase = life.phase
    if phase is Phase.FAILED:
        return life, []
    if phase is Phase.RUNNING:
        return _begin_stop(life, event.cause, event.signal, now)
    if phase is Phase.STARTING:
        if life.cause is None:
            life = life._replace(cause=event.cause, signal=event.signal)
        return _wake_starting(life, now)
    if phase is Phase.STOPPING:
        return _wake_stopping(life, now)
    # The script's own exit has decided the command's status. Only the rest of its tree is stopped.
    life = life._replace(leftover_at=min(life.leftover_at, now))
    if phase in _TREE_PHASES:
        return _look(life, now)
    return _drain(life) if phase is Phase.DRAINING else (life, [])


def _begin_stop(life: Life, cause: str, number: int, now: float) -> Step:
    actions: list[Action] = [RecordStopping(cause, number)]
    stopping = life._replace(phase=Phase.STOPPING, cause=cause, timeout_at=None)
    if stopping.kill_at is None or stopping.kill_at > now:
        # A process that SIGSTOP has stopped handles the first signal only after SIGCONT.
        actions += [SignalGroup(number), SignalGroup(signal.SIGCONT)]
    stopping, more = _wake_stopping(stopping, now)
    return stopping, actions + more


def _exited(life: Life, event: Exited, now: float) -> Step:
    actions: list[Action] = []
    if life.phase is Phase.STARTING:
        life, actions = _started(life, Started(), now)
    if life.phase is Phase.FAILED:
        return _refuse(life, now)
    if not life.is_live:
        return life, []
    leftover_at = now + life.leftover_seconds
    if life.kill_at is not None:
        # The grace period of a stop also limits the wait for leftovers and for open pipes.
        leftover_at = min(leftover_at, life.kill_at)
    exited = life._replace(
        phase=Phase.EXITED,
        timeout_at=None,
        leftover_at=leftover_at,
        look_seconds=FIRST_LOOK_SECONDS,
        wake_at=now,
    )
    return exited, [*actions, RecordExited(event.fields)]


# The time


def _woke(life: Life, _: Woke, now: float) -> Step:
    if life.wake_at is None or now < life.wake_at:
        return life, []
    return _WAKES[life.phase](life, now)


def _wake_starting(life: Life, now: float) -> Step:
    if now >= life.decide_at:
        return _started(life, Started(), now)
    kill_at = life.kill_at
    if kill_at is None or life.killing:
        return life._replace(wake_at=life.decide_at), []
    if now >= kill_at:
        return life._replace(wake_at=life.decide_at, killing=True), [KillProcess()]
    return life._replace(wake_at=min(life.decide_at, kill_at)), []


def _wake_running(life: Life, now: float) -> Step:
    return _stop(life, StopRequested("timeout", signal.SIGTERM, life.grace_seconds), now)


def _wake_stopping(life: Life, now: float) -> Step:
    if life.kill_at is not None and now < life.kill_at and not life.killing:
        return life._replace(wake_at=life.kill_at), []
    if not life.killing:
        life = life._replace(killing=True, look_seconds=FIRST_LOOK_SECONDS)
    return life, [KillTree()]


def _look(life: Life, _: float) -> Step:
    return life, [KillTree() if life.killing else Look()]


def _wake_draining(life: Life, _: float) -> Step:
    return _drain(life)


def _wake_removing(life: Life, _: float) -> Step:
    return _closed(life), [RecordClosed()]


# The process tree


def _looked(life: Life, event: Looked, now: float) -> Step:
    if life.phase not in _TREE_PHASES:
        return life, []
    if event.empty:
        return _drain(life)
    life = life._replace(phase=Phase.LEFTOVERS)
    kill_at = life.leftover_at + LEFTOVER_KILL_SECONDS
    if life.kill_at is not None:
        kill_at = min(kill_at, life.kill_at)
    if now >= kill_at:
        return life._replace(killing=True), [KillTree()]
    if now >= life.leftover_at and not life.leftovers_signalled:
        return life, [SignalLeftovers()]
    return _look_later(life, now), []


def _leftovers_signalled(life: Life, event: LeftoversSignalled, now: float) -> Step:
    if life.phase not in _TREE_PHASES:
        return life, []
    # If no process was signalled, the keeper does not know yet which processes belong to the tree.
    # SIGTERM is then sent after a later look.
    signalled = life._replace(leftovers_signalled=event.found, look_seconds=FIRST_LOOK_SECONDS)
    return _look_later(signalled, now), []


def _killed(life: Life, event: Killed, now: float) -> Step:
    if life.phase not in _TREE_PHASES and life.phase is not Phase.STOPPING:
        return life, []
    if event.empty and life.phase in _TREE_PHASES:
        return _drain(life)
    life = life._replace(unkillable=event.unkillable)
    if life.phase is Phase.EXITED:
        life = life._replace(phase=Phase.LEFTOVERS)
    if life.shutting_down and event.unkillable:
        lost_at = (now if life.kill_at is None else life.kill_at) + UNKILLABLE_SECONDS
        if now >= lost_at:
            reason = f"the keeper may not end {event.unkillable}, which may still run"
            return _closed(life), [RecordLost(reason)]
    return _look_later(life, now), []


def _cannot_look(life: Life, _: CannotLook, now: float) -> Step:
    return _look_later(life, now), []


def _look_later(life: Life, now: float) -> Life:
    """Return the life with the time of the next look: after a pause, or when a deadline comes."""
    wake_at = now + life.look_seconds
    if not life.killing and not life.is_live:
        deadline = life.leftover_at
        if now >= deadline:
            deadline += LEFTOVER_KILL_SECONDS
        if life.kill_at is not None:
            deadline = min(deadline, life.kill_at)
        wake_at = max(now, min(wake_at, deadline)) if deadline > now else wake_at
    look_seconds = min(life.look_seconds * 2, LAST_LOOK_SECONDS)
    return life._replace(wake_at=wake_at, look_seconds=look_seconds)


# The output and the end


def _drain(life: Life) -> Step:
    return life._replace(phase=Phase.DRAINING, wake_at=None), [Drain(life.leftover_at)]


def _drained(life: Life, event: Drained, now: float) -> Step:
    if life.phase is not Phase.DRAINING:
        return life, []
    if event.result is DrainResult.PAUSED:
        return life._replace(wake_at=None), []
    if event.result is DrainResult.OPEN:
        return _look_later(life, now), []
    if life.has_private_directory:
        removing = life._replace(phase=Phase.REMOVING, wake_at=now + REMOVAL_SECONDS)
        return removing, [RemoveDirectory()]
    return _closed(life), [RecordClosed()]


def _output_progressed(life: Life, _: OutputProgressed, now: float) -> Step:
    if life.phase is Phase.DRAINING:
        return _drain(life)
    return _look(life, now) if life.phase in _TREE_PHASES else (life, [])


def _removed(life: Life, _: Removed, __: float) -> Step:
    if life.phase is not Phase.REMOVING:
        return life, []
    return _closed(life), [RecordClosed()]


def _closed(life: Life) -> Life:
    return life._replace(phase=Phase.CLOSED, wake_at=None, timeout_at=None)


_STEPS: dict[type, Callable[[Life, Any, float], Step]] = {
    Started: _started,
    NotStarted: _not_started,
    StopRequested: _stop,
    Exited: _exited,
    Woke: _woke,
    Looked: _looked,
    LeftoversSignalled: _leftovers_signalled,
    Killed: _killed,
    CannotLook: _cannot_look,
    Drained: _drained,
    OutputProgressed: _output_progressed,
    Removed: _removed,
}

_WAKES: dict[Phase, Callable[[Life, float], Step]] = {
    Phase.STARTING: _wake_starting,
    Phase.FAILED: _refuse,
    Phase.RUNNING: _wake_running,
    Phase.STOPPING: _wake_stopping,
    Phase.EXITED: _look,
    Phase.LEFTOVERS: _look,
    Phase.DRAINING: _wake_draining,
    Phase.REMOVING: _wake_removing,
}
