"""A world without processes, in which a command's life is led: for tests of the state machine."""

import signal
from dataclasses import dataclass, field
from typing import Any

from scriptservice.keeper.life import actions as act
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
from scriptservice.keeper.life.life import (
    LEFTOVER_KILL_SECONDS,
    UNKILLABLE_SECONDS,
    Life,
    Phase,
    new_life,
    step,
)

GRACE_SECONDS = 5.0
LEFTOVER_SECONDS = 2.0
LAST_RECORDS = {"CLOSED", "LOST", "REFUSED"}


@dataclass
class Leftover:
    """A process of the tree that is not the script's own."""

    ignores_sigterm: bool = False
    is_unkillable: bool = False
    pid: int = 0


@dataclass
class World:
    """A script's process, its tree, its pipes and its directory; and what the journal says.

    Attributes:
        now: the time, in seconds.
        grace_seconds: the command's grace period.
        leftover_seconds: how long leftovers may go on.
        timeout_seconds: the command's time-out, None for none.
        has_private_directory: whether a directory must be removed.
        process: ``new`` before the exec, ``script``, ``dead`` before it is reaped, or ``reaped``.
        ignores_sigterm: whether the script's own process ignores SIGTERM.
        leftovers: the other living processes of the tree.
        held_open: whether a process outside the tree has a pipe open.
        journal_full: whether output waits for the journal.
        paused: whether the command waits for `OutputProgressed`.
        removing: whether the private directory is being removed.
        is_short: whether the keeper is short of descriptors at its next look.
        records: the kinds of the records that were appended, in order.
        cause: the cause in the record STOPPING.
        trace: what has happened, in order: the name of the method here, and its arguments.
    """

    now: float = 1000.0
    grace_seconds: float = GRACE_SECONDS
    leftover_seconds: float = LEFTOVER_SECONDS
    timeout_seconds: float | None = None
    has_private_directory: bool = False
    process: str = "new"
    ignores_sigterm: bool = False
    leftovers: list[Leftover] = field(default_factory=list)
    held_open: bool = False
    journal_full: bool = False
    paused: bool = False
    removing: bool = False
    is_short: bool = False
    records: list[str] = field(default_factory=list)
    cause: str | None = None
    trace: list[tuple[Any, ...]] = field(default_factory=list)
    life: Life = field(init=False)

    def __post_init__(self) -> None:
        self.life = new_life(
            self.now,
            grace_seconds=self.grace_seconds,
            leftover_seconds=self.leftover_seconds,
            timeout_seconds=self.timeout_seconds,
            has_private_directory=self.has_private_directory,
        )

    @property
    def is_closed(self) -> bool:
        return self.life.phase is Phase.CLOSED

    def happens(self, event: Event | None) -> None:
        """Give an event to the life, and do what the life wants, until it wants nothing more."""
        while event is not None:
            self.life, actions = step(self.life, event, self.now)
            event = None
            for action in actions:
                assert event is None, "an action follows one that has a result"
                event = self._perform(action)

    def _perform(self, action: act.Action) -> Event | None:
        match action:
            case act.Look() | act.SignalLeftovers() | act.KillTree() if self.is_short:
                self.is_short = False
                return CannotLook()
            case act.Look():
                return Looked(not self.leftovers)
            case act.SignalLeftovers():
                assert self.now >= self.life.leftover_at, "SIGTERM came too early"
                found = bool(self.leftovers)
                self.leftovers = [each for each in self.leftovers if each.ignores_sigterm]
                return LeftoversSignalled(found)
            case act.KillTree():
                return self._kill_tree()
            case act.Drain():
                return Drained(self._drain(action.deadline))
            case act.SignalGroup():
                if action.signal == signal.SIGTERM and not self.ignores_sigterm:
                    self.process = "dead" if self.process == "script" else self.process
            case act.KillProcess():
                self.process = "dead"
            case act.RemoveDirectory():
                self.removing = True
            case act.ReadOutput():
                pass
            case _:
                self._record(action)
        return None

    def _kill_tree(self) -> Event:
        life = self.life
        allowed = [life.kill_at] if life.kill_at is not None else []
        if self.process == "reaped":
            allowed.append(life.leftover_at + LEFTOVER_KILL_SECONDS)
        assert life.killing, "SIGKILL without a decision"
        assert self.now >= min(allowed), "SIGKILL came too early"
        if self.process == "script":
            self.process = "dead"
        self.leftovers = [each for each in self.leftovers if each.is_unkillable]
        unkillable = "process 7 of uid 0" if self.leftovers else ""
        return Killed(not self.leftovers and self.process == "reaped", unkillable)

    def _drain(self, deadline: float) -> DrainResult:
        if self.journal_full:
            self.paused = True
            return DrainResult.PAUSED
        if self.held_open and self.now < deadline:
            return DrainResult.OPEN
        return DrainResult.ENDED

    def _record(self, action: act.Action) -> None:
        assert not LAST_RECORDS & set(self.records), "a record follows the last one"
        before = set(self.records)
        match action:
            case act.RecordStarted():
                assert not before
                self.records.append("STARTED")
            case act.Refuse():
                assert not before
                self.records.append("REFUSED")
            case act.RecordStopping():
                assert before == {"STARTED"}
                self.cause = action.cause
                self.records.append("STOPPING")
            case act.RecordExited():
                assert "STARTED" in before
                assert "EXITED" not in before
                self.records.append("EXITED")
            case act.RecordClosed():
                assert "EXITED" in before
                assert self.process == "reaped"
                assert not self.leftovers, "CLOSED although a process of the tree is alive"
                self.records.append("CLOSED")
            case act.RecordLost():
                assert self.life.shutting_down
                assert any(each.is_unkillable for each in self.leftovers)
                assert self.life.kill_at is not None
                assert self.now >= self.life.kill_at + UNKILLABLE_SECONDS
                self.records.append("LOST")
            case _:
                raise AssertionError(action)

    # What may happen

    def exec_succeeds(self) -> None:
        if self.process == "new":
            self.trace.append(("exec_succeeds",))
            self.process = "script"
            self.happens(Started())

    def exec_fails(self) -> None:
        """The process exits after it has reported a failure."""
        if self.process == "new":
            self.trace.append(("exec_fails",))
            self.process = "dead"
            self.happens(NotStarted("cannot run it", retry=False))

    def script_exits(self) -> None:
        if self.process == "script":
            self.trace.append(("script_exits",))
            self.process = "dead"

    def forks(self, *, ignores_sigterm: bool, is_unkillable: bool = False) -> None:
        self.trace.append(("forks", ignores_sigterm))
        if self.process == "script":
            self.leftovers.append(Leftover(ignores_sigterm, is_unkillable))

    def leftover_ends(self) -> None:
        self.trace.append(("leftover_ends",))
        if self.leftovers:
            self.leftovers.pop()

    def ignores(self) -> None:
        """The script ignores SIGTERM from now on."""
        self.trace.append(("ignores",))
        self.ignores_sigterm = True

    def hold(self, *, held: bool) -> None:
        """A process outside the tree opens a pipe of the script, or closes it."""
        self.trace.append(("hold", held))
        self.held_open = held

    def reap(self) -> None:
        """The keeper's pidfd becomes ready; an undecided start is decided first."""
        if self.process == "dead":
            self.process = "reaped"
            if self.life.phase is Phase.STARTING:
                self.happens(Started())
            self.happens(Exited({}))

    def stop(self, cause: str, grace_seconds: float) -> None:
        self.trace.append(("stop", cause, grace_seconds))
        self.happens(StopRequested(cause, signal.SIGTERM, grace_seconds))

    def room(self) -> None:
        """The journal takes output again."""
        self.journal_full = False
        if self.paused:
            self.paused = False
            self.happens(OutputProgressed())

    def removed(self) -> None:
        if self.removing:
            self.removing = False
            self.happens(Removed())

    def passes(self, seconds: float) -> None:
        """Let time pass, and wake the life whenever it wants."""
        until = self.now + seconds
        while self.life.wake_at is not None and self.life.wake_at <= until:
            before = self.now, self.life
            self.now = max(self.now, self.life.wake_at)
            self.happens(Woke())
            assert (self.now, self.life) != before, "a wake changes nothing, for ever"
        self.now = until

    @property
    def is_expected(self) -> bool:
        """Whether anything will happen to the command by itself."""
        return (
            self.is_closed
            or self.life.wake_at is not None
            or self.process != "reaped"
            or self.paused
            or self.removing
        )

    def finish(self) -> None:
        """Let everything that is under way end, and wait for the end of the command."""
        self.exec_succeeds()
        self.ignores_sigterm = self.held_open = self.is_short = False
        for _ in range(200):
            if self.is_closed:
                return
            self.script_exits()
            self.reap()
            self.room()
            self.removed()
            self.leftovers = [each for each in self.leftovers if not each.is_unkillable]
            self.passes(0.3)
        raise AssertionError(f"the command does not end: {self}")
