"""Runs one command: passes events to its state machine, and performs the returned actions.

The state machine `keeper.life.life` decides. This module owns the process, its pipes and its timer.
The service's promises depend on the order in which a command ends. The keeper appends EXITED to the
journal, and waits until the process tree is empty or kills it. Then it reads the output to the last
byte. The record CLOSED comes last.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from resource import struct_rusage
from typing import Any

from scriptservice.keeper.command.exceeded_limit import exceeded_limit
from scriptservice.keeper.command.output_pipes import STDERR, STDOUT, ScriptOutput
from scriptservice.keeper.command.script_input import ScriptInput
from scriptservice.keeper.journal.journal import Journal
from scriptservice.keeper.life import actions as act
from scriptservice.keeper.life.events import (
    CannotLook,
    Drained,
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
from scriptservice.keeper.life.kept_command import KeptCommand
from scriptservice.keeper.life.life import FIRST_LOOK_SECONDS, REMOVAL_SECONDS, Phase, step
from scriptservice.keeper.spawn.exec_failure import read_outcome
from scriptservice.keeper.spawn.script_streams import set_terminal_size
from scriptservice.keeper.spawn.spawn_error import start_failure
from scriptservice.keeper.system.event_loop import EventLoop, Pause, Timer
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.system.linux import is_resource_shortage, soft_cpu_limit
from scriptservice.keeper.tree.process_tree import ProcessTree
from scriptservice.protocol.fault_points import reached
from scriptservice.protocol.frames import InputResult
from scriptservice.protocol.journal_format import Kind, id_bytes

_BEFORE_OUTPUT = (Phase.STARTING, Phase.FAILED)
_INPUT_PHASES = (Phase.STARTING, Phase.RUNNING)


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The parts of the keeper that all running commands share.

    Attributes:
        loop: events and timers.
        journal: gets the records of what happens.
        tree: tells which processes belong to which script.
        null: a descriptor of /dev/null, open for writing.
        remove_directory: removes a directory with its content, and then calls its second argument.
        started: called with a command after its STARTED record was appended.
        refused: called with a command that did not start; appends the REFUSED record.
        closed: called with a command after its last record was appended.
    """

    loop: EventLoop
    journal: Journal
    tree: ProcessTree
    null: int
    remove_directory: Callable[[str, Callable[[], None]], None]
    started: Callable[["RunningCommand"], None]
    refused: Callable[["RunningCommand", act.Refuse], None]
    closed: Callable[["RunningCommand"], None]


class RunningCommand:
    """One script whose process this keeper has made.

    Args:
        kept: what is kept of the command; a new one, or one that the keeper's previous program
            handed over. This object closes the descriptors in it.
        context: the parts of the keeper that all commands share.

    Attributes:
        kept: what is kept of the command.
        id: the command's UUID.
        id_bytes: the 16 bytes of the UUID.
        pid: the id of the script's own process.
        start_ticks: when that process started, in clock ticks from boot.
        exited: whether the script's own process was reaped; EXITED may not be in the journal yet.
        input: the input, None if the script takes none.
    """

    __slots__ = (
        "_actions", "_busy", "_context", "_events", "_has_failed", "_loop", "_output", "_pause",
        "_timer", "exited", "id", "id_bytes", "input", "kept", "pid", "start_ticks",
    )  # fmt: skip

    def __init__(self, kept: KeptCommand, context: CommandContext) -> None:
        assert kept.pid is not None  # noqa: S101 - only a recovered command has none
        self.kept = kept
        self.id = kept.id
        self.id_bytes = id_bytes(kept.id)
        self.pid = kept.pid
        self.start_ticks = kept.start_ticks
        self.exited = kept.exited
        self._context = context
        self._loop = context.loop
        self._output = ScriptOutput(self, kept, context.loop, context.journal, context.null)
        self.input = None if kept.input is None else ScriptInput(self, kept.input, context.loop)
        # Lists, since an empty deque takes 600 bytes for each running command.
        self._events: list[Event] = []
        self._actions: list[act.Action] = []
        self._busy = self._has_failed = False
        self._pause: Pause | None = None
        self._timer: Timer | None = None

    def watch(self) -> None:
        """Begin to wait for what happens to the script.

        Raises:
            OSError: a descriptor cannot be watched; call `unwatch`.
        """
        kept = self.kept
        if kept.handle is not None:
            self._loop.watch(self, kept.handle, self._pidfd_ready)
        if kept.status is not None:
            self._loop.watch(self, kept.status, self._status_ready)
        if kept.life.phase not in _BEFORE_OUTPUT:
            self._output.watch()
            if self.input is not None:
                self.input.start()
        if kept.life.wake_at is None and not kept.life.is_live:
            # The keeper's previous program waited for a paused pipe. This program looks again.
            kept.life = kept.life._replace(wake_at=time.monotonic())
        elif kept.life.phase is Phase.REMOVING and not kept.life.wake_at:
            # An early release, which had no `Life`, handed over no deadline for the removal.
            kept.life = kept.life._replace(wake_at=time.monotonic() + REMOVAL_SECONDS)
        self._set_timer(kept.life.wake_at)

    def unwatch(self) -> None:
        """Stop waiting for events; this closes no descriptor."""
        for descriptor in (self.kept.handle, self.kept.status):
            if descriptor is not None:
                self._loop.unwatch(descriptor)
        self._set_timer(None)

    @property
    def is_settled(self) -> bool:
        """Whether every event was applied to `kept`, and every resulting action was performed."""
        return not self._events and not self._actions

    @property
    def has_input_pipe(self) -> bool:
        """Whether the command takes input through a pipe, which needs one more descriptor."""
        return self.kept.input is not None and not self.kept.input.is_terminal

    def to_kept(self) -> KeptCommand:
        """Return all that the keeper's next program needs of this command."""
        if self.input is None:
            return self.kept
        return replace(self.kept, input=self._output.to_kept(self.input.to_kept()))

    # Input and signals from clients

    def _takes(self, phases: tuple[Phase, ...]) -> bool:
        life = self.kept.life
        return not self.exited and life.phase in phases and life.cause is None

    def input_state(self) -> InputResult:
        """Return whether the script takes input now: ``ACCEPTED``, or why it takes none."""
        if not self._takes(_INPUT_PHASES):
            return InputResult.NOT_RUNNING
        return InputResult.NOT_INTERACTIVE if self.input is None else self.input.state()

    def write_input(self, data: bytes, *, offset: int | None, close: bool) -> InputResult:
        """Give input to the script; see `ScriptInput.accept`."""
        if self.input is None or not self._takes(_INPUT_PHASES):
            return self.input_state()
        result = self.input.accept(data, offset=offset, close=close)
        if result is InputResult.ACCEPTED and self.kept.life.phase not in _BEFORE_OUTPUT:
            self._start_input(self.input)
        return result

    def _start_input(self, script_input: ScriptInput) -> None:
        """Write input that waits, or try it later; accepted input must not fail any more."""
        try:
            script_input.start()
        except OSError as error:
            logger.exception("keeper_fault", detail="the input is written later")
            self.callback_failed(error)

    def send_signal(self, number: int) -> bool:
        """Send a signal to the script's process group; return False if the script does not run."""
        if not self._takes((Phase.RUNNING,)):
            return False
        self._signal_group(number)
        return True

    def resize(self, rows: int, cols: int) -> None:
        """Set the size of the script's terminal, if it has one that is still open."""
        is_terminal = self.kept.input is not None and self.kept.input.is_terminal
        if is_terminal and self.kept.streams:
            set_terminal_size(self.kept.streams[0][0], rows, cols)

    # What happens to the command

    def stop(self, cause: str, number: int, grace_seconds: float) -> None:
        """Stop the script; only the cause of the first stop is stored.

        Args:
            cause: stop, timeout, limit or shutdown.
            number: the signal for the script's process group.
            grace_seconds: the time until the whole tree gets SIGKILL; a later call may shorten the
                time.
        """
        self._happened(StopRequested(cause, number, grace_seconds))

    def shut_down(self, grace_seconds: float) -> None:
        """Stop the script for a shutdown of the service.

        Args:
            grace_seconds: the shutdown's grace period. If the command's own grace period is
                shorter, that applies.
        """
        self.stop("shutdown", signal.SIGTERM, min(grace_seconds, self.kept.life.grace_seconds))

    def reaped(
        self, status: int, usage: struct_rusage, soft_cpu_seconds: int | None = None
    ) -> None:
        """Take the end of the script's own process.

        Args:
            status: the wait status from ``wait4``.
            usage: the resource usage of the process and of the children that it waited for.
            soft_cpu_seconds: the soft limit of CPU time of the process; None if it was not read.
        """
        fields: dict[str, Any] = {
            "status": status,
            "user_seconds": round(usage.ru_utime, 6),
            "system_seconds": round(usage.ru_stime, 6),
            "max_rss_bytes": usage.ru_maxrss * 1024,
        }
        # After `wait4` the kernel has forgotten the exit. So put the exit into the queue before
        # anything can fail.
        self.exited = True
        self._events.append(Exited(fields))
        self._close_handle()
        if self.input is not None:
            self.input.close()
        reached("end.reaped")
        memory_kill = partial(self._context.tree.memory_kill, self)
        exceeded = exceeded_limit(self.kept.limits, status, soft_cpu_seconds, memory_kill)
        if exceeded is not None:
            fields["exceeded"] = exceeded
        # What the tree remembers may be too old. If another command's tree was looked at earlier
        # in this batch, the keeper may have become the parent of this script's orphans since then.
        self._context.tree.refresh()
        outcome = self._start_outcome(is_reaped=True)
        if outcome is not None:
            self._events.insert(len(self._events) - 1, outcome)
        self._go_on()

    def output_limit_reached(self) -> None:
        """Stop the script, since it has printed more than its output limit."""
        if self.kept.life.phase is Phase.RUNNING:
            self.stop("limit", signal.SIGTERM, self.kept.life.grace_seconds)

    def output_progressed(self) -> None:
        """Go on with the command's end: a pipe has ended, or is read again after a pause."""
        self._happened(OutputProgressed())

    def removed(self) -> None:
        """Go on with the command's end: the private directory is removed."""
        self._happened(Removed())

    def callback_failed(self, error: Exception) -> None:  # noqa: ARG002 - it is logged
        """Check the command again after a pause, since the failure may have hidden an event."""
        if not self._has_failed:
            self._has_failed = True
            self._pause = self._pause or Pause()
            self._loop.after(self, self._pause.next_seconds(), self._look_again)

    def _look_again(self) -> None:
        self._has_failed = False
        if self.kept.life.phase is Phase.CLOSED and not self._actions:
            return
        if self.kept.life.phase not in _BEFORE_OUTPUT:
            self._read_output()
        self._happened(OutputProgressed())

    def _pidfd_ready(self, _: int) -> None:
        soft_seconds = soft_cpu_limit(self.pid) if "cpu_seconds" in self.kept.limits else None
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid:
            self.reaped(status, usage, soft_seconds)

    def _status_ready(self, _: int) -> None:
        outcome = self._start_outcome(is_reaped=False)
        if outcome is not None:
            self._happened(outcome)

    def _start_outcome(self, *, is_reaped: bool) -> Event | None:
        """Return whether the process has become the script; None if that is known or undecided.

        The status pipe stays open after the command counts as started. Otherwise SIGPIPE would end
        a process that reports a failure late, and the exit status would not tell what happened.
        """
        kept = self.kept
        if kept.status is None:
            return None
        outcome = read_outcome(kept.status)
        if outcome is None and not is_reaped:
            return None
        self._close_status()
        if outcome is None or outcome.failed_step is None:
            return Started()
        error = start_failure(outcome, kept.interpreter, kept.working_directory)
        return NotStarted(str(error), error.retry)

    def _woke(self) -> None:
        self._timer = None
        self._happened(Woke())

    # What the command does

    def _happened(self, event: Event) -> None:
        """Take an event, and do everything that follows from it.

        An action may cause another event. That event waits until all earlier actions are done. If
        an action fails, it stays first in the list, and the next event tries it again.
        """
        self._events.append(event)
        self._go_on()

    def _go_on(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            while self._actions or self._events:
                if self._actions:
                    result = self._perform(self._actions[0])
                    del self._actions[0]
                    if result is not None:
                        self._events.insert(0, result)
                else:
                    self._take(self._events.pop(0))
        finally:
            self._busy = False
        self._set_timer(self.kept.life.wake_at)

    def _take(self, event: Event) -> None:
        life, actions = step(self.kept.life, event, time.monotonic())
        self.kept.life = life
        self.exited = self.exited or not life.is_live
        self._actions.extend(actions)

    def _perform(self, action: act.Action) -> Event | None:  # noqa: C901 - a case for each action
        """Perform an action; return its result, None if the action has none."""
        match action:
            case act.Look() | act.SignalLeftovers() | act.KillTree():
                return self._use_tree(action)
            case act.Drain():
                return Drained(self._output.drain(action.deadline))
            case act.RecordStarted():
                self._record_started()
            case act.ReadOutput():
                self._read_output()
            case act.RecordExited():
                self._append(Kind.EXITED, action.fields)
                reached("end.exited")
            case act.RecordClosed():
                self._record_closed()
            case act.RecordStopping():
                self._record_stopping(action)
            case act.SignalGroup():
                self._signal_group(action.signal)
            case act.KillProcess():
                self._kill_process()
            case act.RemoveDirectory():
                self._remove_directory()
            case act.Refuse():
                self._refuse(action)
            case act.RecordLost():
                self._record_lost(action.reason)
        return None

    def _set_timer(self, when: float | None) -> None:
        timer = self._timer
        if timer is not None:
            if timer.when == when:
                return
            self._loop.cancel(timer)
        self._timer = None if when is None else self._loop.at(self, when, self._woke)

    def _append(self, kind: Kind, fields: dict[str, Any]) -> None:
        self._context.journal.append(kind, self.id, fields, self.kept.position)

    def _record_started(self) -> None:
        reached("spawn.begun")
        self._append(Kind.STARTED, self.kept.process_fields())
        reached("spawn.started")
        self._context.started(self)

    def _read_output(self) -> None:
        """Watch the pipes, or try it later if that fails.

        This method catches the error. The next actions may be those of a stop, which must not be
        delayed.
        """
        try:
            self._output.watch()
        except OSError as error:
            logger.exception("keeper_fault", detail="the output is read later")
            self.callback_failed(error)
        if self.input is not None:
            self._start_input(self.input)

    def _refuse(self, action: act.Refuse) -> None:
        self._release()
        if self.kept.private_directory is not None:
            with suppress(OSError):
                os.rmdir(self.kept.private_directory)
        self._context.tree.forget(self)
        self._context.refused(self, action)

    def _record_stopping(self, action: act.RecordStopping) -> None:
        reached("stop.asked")
        name = signal.Signals(action.signal).name
        self._append(Kind.STOPPING, {"cause": action.cause, "signal": name})
        reached("stop.recorded")

    def _signal_group(self, number: int) -> None:
        if self.exited:
            return
        # The group's leader is not reaped yet, so no other group can have its id.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
        reached("stop.signalled")

    def _kill_process(self) -> None:
        if self.kept.handle is not None:
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self.kept.handle, signal.SIGKILL)

    def _use_tree(self, action: act.Look | act.SignalLeftovers | act.KillTree) -> Event:
        tree = self._context.tree
        try:
            if isinstance(action, act.Look):
                return Looked(tree.is_empty(self))
            if isinstance(action, act.SignalLeftovers):
                signalled = tree.signal(self, signal.SIGTERM)
                self.kept.add_leftovers(signalled)
                tree.signal(self, signal.SIGCONT)
                return LeftoversSignalled(bool(signalled))
            if self.exited:
                self.kept.add_leftovers(tree.signal(self, signal.SIGKILL))
            else:
                reached("stop.killing")
            result = tree.kill(self)
            # A process that has not become the script yet may not have entered its cgroup, so kill
            # this process directly too. Do this after the look at the tree, because the children of
            # a dead process are harder to find.
            self._kill_process()
            unkillable = [f"process {each.pid} of uid {each.uid}" for each in result.forbidden]
            return Killed(result.empty, ", ".join(unkillable))
        except OSError as error:
            if not is_resource_shortage(error):
                raise
            if self.kept.life.look_seconds == FIRST_LOOK_SECONDS:
                logger.warning("tree_waits", command_id=self.id, detail=str(error))
            return CannotLook()

    def _remove_directory(self) -> None:
        self._context.tree.forget(self)
        assert self.kept.private_directory is not None  # noqa: S101 - else there is no such action
        self._context.remove_directory(
            self.kept.private_directory, partial(self._loop.call, self, self.removed)
        )

    def _record_closed(self) -> None:
        self._context.tree.forget(self)
        self._release()
        kept = self.kept
        fields = {
            "cause": kept.life.cause,
            "leftovers_killed": kept.leftovers_killed,
            "discarded_bytes": kept.discarded,
            "stdout_bytes": kept.stream_bytes[STDOUT],
            "stderr_bytes": kept.stream_bytes[STDERR],
        }
        reached("end.drained")
        self._append(Kind.CLOSED, fields)
        reached("end.closed")
        self._context.closed(self)

    def _record_lost(self, reason: str) -> None:
        self._output.drain(time.monotonic())
        self._release()
        self._context.tree.forget(self)
        self._append(Kind.LOST, {"reason": reason})
        self._context.closed(self)

    def _release(self) -> None:
        """Close all descriptors of the command."""
        self._close_status()
        self._close_handle()
        if self.input is not None:
            self.input.close()
        self._output.close()

    def _close_status(self) -> None:
        if self.kept.status is not None:
            self._loop.unwatch(self.kept.status)
            os.close(self.kept.status)
            self.kept.status = None

    def _close_handle(self) -> None:
        if self.kept.handle is not None:
            self._loop.unwatch(self.kept.handle)
            os.close(self.kept.handle)
            self.kept.handle = None
