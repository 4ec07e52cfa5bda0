"""The life of one script, from its process to its CLOSED record.

Each method that changes the state is named after the event that causes the change. The service's
promises depend on the order of the steps by which a command ends. First the keeper appends the exit
of the script's own process to the journal. Then the keeper waits for the other processes of the
tree, and kills those that take too long. Then it reads the output to the last byte. At last it
appends the CLOSED record.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from resource import struct_rusage
from typing import Any
from uuid import UUID

from scriptservice.keeper.command.output_pipes import STDERR, STDOUT, DrainResult, ScriptOutput
from scriptservice.keeper.journal.journal import Journal
from scriptservice.keeper.spawn.spawned_process import SpawnedProcess
from scriptservice.keeper.system.event_loop import EventLoop, Timer
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.system.linux import is_resource_shortage
from scriptservice.keeper.tree.process_tree import ProcessTree
from scriptservice.keeper.upgrade_state import CommandState
from scriptservice.protocol.fault_points import reached
from scriptservice.protocol.frames import SpawnSpec
from scriptservice.protocol.journal_format import Kind

LEFTOVER_KILL_SECONDS = 1.0

_FIRST_CHECK_SECONDS = 0.005
_LAST_CHECK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The parts of the keeper that all running commands share.

    Attributes:
        loop: events and timers.
        journal: gets the records of what happens to the commands.
        tree: tells which processes belong to which script.
        null: a descriptor of /dev/null, open for writing.
        remove_directory: removes a directory with its content, then calls the callback.
        closed: called with a command after its CLOSED record was appended.
    """

    loop: EventLoop
    journal: Journal
    tree: ProcessTree
    null: int
    remove_directory: Callable[[str, Callable[[], None]], None]
    closed: Callable[["RunningCommand"], None]


class RunningCommand:
    """One script that was started by this keeper.

    Args:
        spec: the script.
        spawned: the script's process and pipes; this object closes their descriptors.
        context: the parts of the keeper that all commands share.

    Attributes:
        id: the command's UUID.
        id_bytes: the 16 bytes of the UUID.
        pid: the id of the script's own process.
        started: when the script started, in seconds of the monotonic clock.
        exited: whether the script's own process was reaped.
    """

    __slots__ = (
        "_cause", "_check_seconds", "_check_timer", "_context", "_grace_seconds", "_kill_at",
        "_killing", "_leftover_at", "_leftover_pids", "_leftover_seconds", "_output", "_pidfd",
        "_pipe_inodes", "_private_directory", "_removing", "_start_ticks", "_stop_timer", "_termed",
        "_timeout_timer", "_tree_gone", "exited", "id", "id_bytes", "pid", "started",
    )  # fmt: skip

    def __init__(self, spec: SpawnSpec, spawned: SpawnedProcess, context: CommandContext) -> None:
        self.id = spec.id
        self.id_bytes = UUID(spec.id).bytes
        self.pid = spawned.pid
        self.started = time.monotonic()
        self.exited = False
        self._context = context
        self._pidfd = spawned.pidfd
        self._start_ticks = spawned.start_ticks
        self._pipe_inodes = spawned.pipes
        self._private_directory = spawned.private_directory
        self._removing = False
        self._grace_seconds = spec.grace_seconds
        self._leftover_seconds = spec.leftover_seconds
        self._cause: str | None = None
        self._kill_at: float | None = None
        self._stop_timer: Timer | None = None
        self._killing = self._termed = self._tree_gone = False
        self._leftover_at = 0.0
        self._leftover_pids: set[int] | None = None
        self._check_seconds = _FIRST_CHECK_SECONDS
        self._check_timer: Timer | None = None
        self._timeout_timer: Timer | None = None
        self._output = self._make_output(
            spec.output_limit_bytes,
            [[spawned.stdout, STDOUT], [spawned.stderr, STDERR]],
            stop_on_limit=spec.on_output_limit == "stop",
        )
        loop = context.loop
        context.journal.append(Kind.STARTED, self.id, self._process_fields())
        reached("spawn.started")
        self._output.watch()
        loop.watch(self._pidfd, self._pidfd_ready)
        if spec.timeout_seconds is not None:
            self._timeout_timer = loop.after(spec.timeout_seconds, self._timed_out)

    def to_state(self) -> CommandState:
        """Return the command's whole state, for the keeper's next program."""
        kept = {name.removeprefix("_"): getattr(self, name) for name in _STATE_ATTRIBUTES}
        leftovers = self._leftover_pids
        return CommandState(
            **kept,
            handle=None if self.exited else self._pidfd,
            pipes=list(self._pipe_inodes),
            leftover_pids=None if leftovers is None else sorted(leftovers),
            timeout_at=None if self._timeout_timer is None else self._timeout_timer.due,
            **self._output.state_fields(),
        )

    @classmethod
    def from_state(cls, state: CommandState, context: CommandContext) -> "RunningCommand":
        """Return the command that the previous program of the keeper handed over.

        The state does not tell what the command waited for. The new object finds out again: it
        reads the pipes and looks at the process tree.
        """
        command = cls.__new__(cls)
        command.restore(state, context)
        return command

    def restore(self, state: CommandState, context: CommandContext) -> None:
        """Set the state that was handed over; `from_state` calls this instead of ``__init__``."""
        for name in _STATE_ATTRIBUTES:
            setattr(self, name, getattr(state, name.removeprefix("_")))
        loop = context.loop
        self._context = context
        self.id_bytes = UUID(state.id).bytes
        self._pipe_inodes = (state.pipes[0], state.pipes[1])
        self._leftover_pids = None if state.leftover_pids is None else set(state.leftover_pids)
        self._check_seconds = _FIRST_CHECK_SECONDS
        self._check_timer = self._stop_timer = None
        at = state.timeout_at
        self._timeout_timer = None if at is None else loop.at(at, self._timed_out)
        self._output = self._make_output(
            state.limit, state.streams, stop_on_limit=state.stop_on_limit
        )
        self._output.restore(state)
        self._output.watch()
        self._pidfd = -1 if state.handle is None else state.handle
        if state.handle is not None:
            loop.watch(self._pidfd, self._pidfd_ready)
            if state.kill_at is not None and not state.killing:
                self._stop_timer = loop.at(state.kill_at, self._grace_ended)
        if state.exited or state.killing:
            loop.defer(self._advance)

    def _make_output(
        self, limit_bytes: int | None, streams: list[list[int]], *, stop_on_limit: bool
    ) -> ScriptOutput:
        context = self._context
        return ScriptOutput(
            self,
            context.loop,
            context.journal,
            null=context.null,
            limit_bytes=limit_bytes,
            stop_on_limit=stop_on_limit,
            streams=streams,
        )

    def _process_fields(self) -> dict[str, Any]:
        return {
            "pid": self.pid,
            "start_ticks": self._start_ticks,
            "pipes": list(self._pipe_inodes),
            "output_limit_bytes": self._output.limit_bytes,
        }

    def snapshot(self) -> dict[str, Any]:
        """Return this command's entry for a SNAPSHOT record.

        If this keeper dies, the next keeper needs the entry to end the command.
        """
        return {
            "id": self.id,
            **self._process_fields(),
            "position": self._output.position,
            "exited": self.exited,
            "cause": self._cause,
            "leftovers_killed": len(self._leftover_pids or ()),
            "discarded_bytes": self._output.discarded,
        }

    # Events of the script's output

    def output_limit_reached(self) -> None:
        """Stop the script, since it has printed more than its output limit."""
        if not self.exited and self._cause is None:
            self.stop("limit", signal.SIGTERM, self._grace_seconds)

    def output_progressed(self) -> None:
        """Continue to end the command if the script's own process has exited.

        The output calls this when a pipe has ended, or when a paused pipe is read again.
        """
        if self.exited:
            self._advance()

    # Ending

    def stop(self, cause: str, number: int, grace_seconds: float) -> None:
        """Stop the script; only the cause of the first stop is stored.

        Args:
            cause: stop, timeout, limit or shutdown.
            number: the signal for the script's process group.
            grace_seconds: the time until the whole tree gets SIGKILL; a later call may shorten the
                time.
        """
        now = time.monotonic()
        kill_at = now + grace_seconds
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)
        if self.exited:
            # The script's own exit already decides the command's status. Only the rest of the
            # process tree is stopped.
            self._leftover_at = min(self._leftover_at, now)
            self._advance()
            return
        if self._cause is None:
            self._cause = cause
            fields = {"cause": cause, "signal": signal.Signals(number).name}
            reached("stop.asked")
            self._context.journal.append(Kind.STOPPING, self.id, fields, self._output.position)
            reached("stop.recorded")
            if grace_seconds > 0:
                self._signal_group(number)
                # A process that SIGSTOP has stopped handles the signal only after SIGCONT.
                self._signal_group(signal.SIGCONT)
                reached("stop.signalled")
        self._context.loop.cancel(self._stop_timer)
        self._stop_timer = None
        if self._kill_at <= now:
            self._grace_ended()
        else:
            self._stop_timer = self._context.loop.at(self._kill_at, self._grace_ended)

    def shut_down(self, grace_seconds: float) -> None:
        """Stop the script for a shutdown of the service.

        Args:
            grace_seconds: the shutdown's grace period. The script gets this grace period or the
                command's own grace period, whichever is shorter.
        """
        self.stop("shutdown", signal.SIGTERM, min(grace_seconds, self._grace_seconds))

    def _signal_group(self, number: int) -> None:
        # The script's own process is the leader of the group and is not reaped yet. So no other
        # group can have the same id.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _timed_out(self) -> None:
        self._timeout_timer = None
        self.stop("timeout", signal.SIGTERM, self._grace_seconds)

    def _grace_ended(self) -> None:
        reached("stop.killing")
        self._stop_timer = None
        self._killing = True
        self._check_seconds = _FIRST_CHECK_SECONDS
        self._advance()

    def _pidfd_ready(self, _: int) -> None:
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid:
            self.reaped(status, usage)

    def reaped(self, status: int, usage: struct_rusage) -> None:
        """Journal the exit of the script's own process and begin to end the command.

        Args:
            status: the wait status from ``wait4``.
            usage: the resource usage of the process and of the children that it waited for.
        """
        reached("end.reaped")
        loop = self._context.loop
        loop.unwatch(self._pidfd)
        os.close(self._pidfd)
        self.exited = True
        # The tree may remember a list of orphans from earlier in this batch, when the processes of
        # another command were looked at. Since then the keeper may have become the parent of
        # orphans of this script.
        self._context.tree.refresh()
        loop.cancel(self._timeout_timer)
        loop.cancel(self._stop_timer)
        self._timeout_timer = self._stop_timer = None
        fields = {
            "status": status,
            "user_seconds": round(usage.ru_utime, 6),
            "system_seconds": round(usage.ru_stime, 6),
            "max_rss_bytes": usage.ru_maxrss * 1024,
        }
        self._context.journal.append(Kind.EXITED, self.id, fields, self._output.position)
        reached("end.exited")
        self._leftover_at = time.monotonic() + self._leftover_seconds
        if self._kill_at is not None:
            # The grace period of a stop also limits the wait for leftovers and for open pipes.
            self._leftover_at = min(self._leftover_at, self._kill_at)
        self._check_seconds = _FIRST_CHECK_SECONDS
        # `_advance` may open descriptors, which is allowed only at the end of a batch. The
        # docstring of the module `event_loop` gives the reason.
        loop.defer(self._advance)

    def _advance(self) -> None:
        """Do the next steps to the command's end, up to the first step that has to wait.

        When that step may go on, a timer or the paused pipe calls this method again.
        """
        self._context.loop.cancel(self._check_timer)
        self._check_timer = None
        if self._removing:
            return
        if not self._tree_gone and not self._end_tree():
            return
        drained = self._output.drain(self._leftover_at)
        if drained is DrainResult.ENDED:
            self._close()
        elif drained is DrainResult.OPEN:
            self._check_again(time.monotonic())

    def _end_tree(self) -> bool:
        now = time.monotonic()
        if not self._killing and not self.exited:
            return False
        try:
            gone = self._try_to_end_tree(now)
        except OSError as error:
            if not is_resource_shortage(error):
                raise
            if self._check_seconds == _FIRST_CHECK_SECONDS:
                logger.warning("tree_waits", command_id=self.id, detail=str(error))
            gone = False  # a process that could not be looked at may be alive
        if gone:
            self._tree_gone = True
        else:
            self._check_again(now)
        return gone

    def _try_to_end_tree(self, now: float) -> bool:
        tree = self._context.tree
        if not self._killing:
            return tree.is_empty(self) or self._end_leftovers(now)
        if self.exited:
            self._count_leftovers(tree.signal(self, signal.SIGKILL))
        return tree.kill(self) and self.exited

    def _end_leftovers(self, now: float) -> bool:
        """Do what is due for the background processes: wait, send SIGTERM, or send SIGKILL.

        Returns:
            Whether the process tree is empty.
        """
        tree = self._context.tree
        kill_at = self._leftover_at + LEFTOVER_KILL_SECONDS
        if self._kill_at is not None:
            kill_at = min(kill_at, self._kill_at)
        if now >= kill_at:
            self._killing = True
            self._count_leftovers(tree.signal(self, signal.SIGKILL))
            return tree.kill(self)
        if now >= self._leftover_at and not self._termed:
            signalled = tree.signal(self, signal.SIGTERM)
            # If no process was signalled, the keeper does not know yet which processes belong to
            # this tree. SIGTERM is then sent at a later check.
            self._termed = bool(signalled)
            self._count_leftovers(signalled)
            tree.signal(self, signal.SIGCONT)
            self._check_seconds = _FIRST_CHECK_SECONDS
        return False

    def _count_leftovers(self, pids: set[int]) -> None:
        if pids:
            self._leftover_pids = (self._leftover_pids or set()) | pids

    def _check_again(self, now: float) -> None:
        times = [now + self._check_seconds]
        if self.exited and not self._killing:
            if self._kill_at is not None:
                times.append(self._kill_at)
            if now < self._leftover_at:
                times.append(self._leftover_at)
            else:
                times.append(self._leftover_at + LEFTOVER_KILL_SECONDS)
        self._check_seconds = min(self._check_seconds * 2, _LAST_CHECK_SECONDS)
        when = max(now, min(times))
        self._check_timer = self._context.loop.at(when, self._advance)

    def _close(self) -> None:
        self._removing = True
        self._context.tree.forget(self)
        if self._private_directory is None:
            self.finish()
        else:
            self._context.remove_directory(self._private_directory, self.finish)

    def finish(self) -> None:
        """Append the CLOSED record; called once, after any private directory was removed."""
        self._output.close()
        fields = {
            "cause": self._cause,
            "leftovers_killed": len(self._leftover_pids or ()),
            "discarded_bytes": self._output.discarded,
            "stdout_bytes": self._output.stream_bytes[STDOUT],
            "stderr_bytes": self._output.stream_bytes[STDERR],
        }
        reached("end.drained")
        self._context.journal.append(Kind.CLOSED, self.id, fields, self._output.position)
        reached("end.closed")
        self._context.closed(self)


# These attributes are handed over unchanged. The fields of `CommandState` have the same names,
# without the leading underscore.
_STATE_ATTRIBUTES = (
    "id", "pid", "started", "exited", "_start_ticks", "_private_directory", "_removing",
    "_grace_seconds", "_leftover_seconds", "_cause", "_kill_at", "_killing", "_termed",
    "_tree_gone", "_leftover_at",
)  # fmt: skip
