"""The output of one script: moves bytes from the script's pipes to the journal, up to a limit.

`RunningCommand` makes and owns a `ScriptOutput`. Each byte of output is in the pipe or in the
journal, never in between. While the journal has no room, or while too much earlier output is not
yet stored in the database, the bytes stay in the pipe. If the pipe becomes full, the script waits.
"""

import os
import select
import time
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Protocol

from scriptservice.keeper.journal.journal import Journal
from scriptservice.keeper.journal.journal_writer import NoRoomError
from scriptservice.keeper.system.event_loop import HANGUP, EventLoop, Timer
from scriptservice.keeper.system.linux import bytes_waiting
from scriptservice.keeper.upgrade_state import CommandState
from scriptservice.protocol.journal_format import Kind

STDOUT, STDERR = 1, 2
WINDOW_BYTES = 8 << 20
"""The keeper counts a script's output in windows of this size.

When a window is full, further output waits until the database has stored everything that was in the
journal when that window began.
"""

_DISCARD_REPORT_SECONDS = 1.0
_DRAIN_ROUNDS = 256
"""One call of `ScriptOutput.drain` empties a pipe at most this many times."""


class OutputOwner(Protocol):
    """The part of a command that `ScriptOutput` uses; see `RunningCommand`."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def id_bytes(self) -> bytes: ...  # noqa: D102
    @property
    def exited(self) -> bool: ...  # noqa: D102

    def output_limit_reached(self) -> None:
        """Stop the script; called when the script has printed more than its output limit."""

    def output_progressed(self) -> None:
        """Continue to end the command.

        The output calls this when a pipe has ended, or when a paused pipe is read again.
        """


class DrainResult(Enum):
    """The result of an attempt to read all pipes to their ends."""

    ENDED = auto()
    PAUSED = auto()
    """A pipe waits for the journal.

    When the pipe is read again, `OutputOwner.output_progressed` is called.
    """
    OPEN = auto()
    """A process still has the write end of a pipe open; try again later."""


class OutputPipe:
    """One of the two pipes to which a script prints.

    Attributes:
        descriptor: the descriptor of the pipe's read end.
        number: 1 for stdout, 2 for stderr.
    """

    __slots__ = ("_output", "descriptor", "number")

    def __init__(self, output: "ScriptOutput", descriptor: int, number: int) -> None:
        self._output = output
        self.descriptor = descriptor
        self.number = number

    def ready(self, events: int) -> None:
        """Handle an event: the pipe has bytes, or every process has closed the write end."""
        self._output.pipe_ready(self, events)

    def resume(self) -> None:
        """Read the pipe again; see `PausedReader`."""
        self._output.pipe_resumed(self)


class ScriptOutput:
    """The output of one script: standard output and standard error.

    Args:
        command: the script's command.
        loop: watches the pipes.
        journal: gets the output.
        null: a descriptor of /dev/null, open for writing; discarded output goes there.
        limit_bytes: how many bytes of both streams together are kept, None for no limit.
        stop_on_limit: whether to stop the script when it has printed more than the limit. Output
            beyond the limit is discarded in either case.
        streams: for each pipe its descriptor and its number, 1 for stdout or 2 for stderr. This
            object closes the descriptors.

    Attributes:
        position: how many bytes of both streams together are in the journal.
        stream_bytes: how many bytes of each stream are in the journal, by the stream's number.
        discarded: how many bytes of both streams together were discarded.
    """

    __slots__ = (
        "_command", "_discard_timer", "_journal", "_limit", "_loop", "_null", "_pipes",
        "_stop_on_limit", "_window_bytes", "_window_mark", "discarded", "position", "stream_bytes",
    )  # fmt: skip

    def __init__(
        self,
        command: OutputOwner,
        loop: EventLoop,
        journal: Journal,
        *,
        null: int,
        limit_bytes: int | None,
        stop_on_limit: bool,
        streams: list[list[int]],
    ) -> None:
        self._command = command
        self._loop = loop
        self._journal = journal
        self._null = null
        self._limit = limit_bytes
        self._stop_on_limit = stop_on_limit
        self.position = 0
        self.stream_bytes = [0, 0, 0]
        self.discarded = 0
        self._discard_timer: Timer | None = None
        self._window_bytes = self._window_mark = 0
        self._pipes = [OutputPipe(self, *pipe) for pipe in streams]

    def state_fields(self) -> dict[str, Any]:
        """Return the fields of a `CommandState` that describe the output."""
        return {
            "limit": self._limit,
            "stop_on_limit": self._stop_on_limit,
            "streams": [[pipe.descriptor, pipe.number] for pipe in self._pipes],
            "position": self.position,
            "stream_bytes": self.stream_bytes,
            "discarded": self.discarded,
            "window_bytes": self._window_bytes,
            "window_mark": self._window_mark,
            "discard_news_at": None if self._discard_timer is None else self._discard_timer.due,
        }

    def restore(self, state: CommandState) -> None:
        """Continue from the state of the keeper's previous program; called before `watch`."""
        self.position = state.position
        self.stream_bytes = state.stream_bytes
        self.discarded = state.discarded
        self._window_bytes, self._window_mark = state.window_bytes, state.window_mark
        if state.discard_news_at is not None:
            self._discard_timer = self._loop.at(state.discard_news_at, self._append_discarded)

    @property
    def limit_bytes(self) -> int | None:
        """How many bytes of both streams together are kept, None for no limit."""
        return self._limit

    def watch(self) -> None:
        """Begin to read the pipes."""
        for pipe in self._pipes:
            self._loop.watch(pipe.descriptor, pipe.ready)

    def close(self) -> None:
        """Cancel the timer for the next DISCARDED record.

        The record is not needed, because CLOSED contains the final number of discarded bytes.
        """
        self._loop.cancel(self._discard_timer)

    def pipe_ready(self, pipe: OutputPipe, events: int) -> None:
        """Move the bytes of a pipe to the journal, or close the pipe at its end."""
        waiting = bytes_waiting(pipe.descriptor)
        if waiting:
            self._move_to_journal(pipe, waiting)
        elif events & HANGUP:
            # The write end was closed before `bytes_waiting` found the pipe empty, so no bytes can
            # follow.
            self._close_pipe(pipe)
            self._command.output_progressed()

    def pipe_resumed(self, pipe: OutputPipe) -> None:
        """Watch a paused pipe again, unless it was closed meanwhile."""
        if pipe in self._pipes:
            self._loop.watch(pipe.descriptor, pipe.ready)
            self._command.output_progressed()

    def _move_to_journal(self, pipe: OutputPipe, waiting: int) -> bool:
        """Move bytes from a pipe to the journal; return False if the pipe was paused."""
        room = waiting if self._limit is None else self._limit - self.position
        if room <= 0:
            self._discard(pipe, waiting)
            return True
        journal = self._journal
        if self._window_bytes >= WINDOW_BYTES:
            if journal.must_wait_for(self._window_mark):
                self._loop.unwatch(pipe.descriptor)
                journal.wait_until_stored(pipe.descriptor, self._window_mark, pipe)
                return False
            self._window_bytes, self._window_mark = 0, journal.end
        try:
            moved = journal.splice(
                pipe.descriptor,
                min(waiting, room),
                self._command.id_bytes,
                pipe.number,
                self.position,
            )
        except NoRoomError:
            # While the pipe waits, epoll must not watch the pipe. A pipe that has bytes or has no
            # writer is always ready, so the loop would never sleep.
            self._loop.unwatch(pipe.descriptor)
            journal.wait_for_room(pipe.descriptor, pipe)
            return False
        self.position += moved
        self._window_bytes += moved
        self.stream_bytes[pipe.number] += moved
        if self._stop_on_limit and waiting > room:
            self._command.output_limit_reached()
        return True

    def _discard(self, pipe: OutputPipe, waiting: int) -> None:
        with suppress(BlockingIOError):  # the script may have read its own pipe meanwhile
            self.discarded += os.splice(
                pipe.descriptor, self._null, waiting, flags=os.SPLICE_F_NONBLOCK
            )
        if self._stop_on_limit:
            self._command.output_limit_reached()
        elif self._discard_timer is None and not self._command.exited:
            self._discard_timer = self._loop.after(_DISCARD_REPORT_SECONDS, self._append_discarded)

    def _append_discarded(self) -> None:
        self._discard_timer = None
        fields = {"discarded_bytes": self.discarded}
        self._journal.append(Kind.DISCARDED, self._command.id, fields, self.position)

    def _close_pipe(self, pipe: OutputPipe) -> None:
        self._loop.unwatch(pipe.descriptor)
        self._journal.cancel_wait(pipe.descriptor)
        self._pipes.remove(pipe)
        os.close(pipe.descriptor)

    def drain(self, deadline: float) -> DrainResult:
        """Read every pipe to its end.

        Args:
            deadline: a time of the monotonic clock, in seconds. After that time a pipe is closed
                even if a process outside the script's tree still has the pipe's write end open.
        """
        for pipe in list(self._pipes):
            drained = self._drain_pipe(pipe, deadline)
            if drained is not DrainResult.ENDED:
                return drained
        return DrainResult.ENDED

    def _drain_pipe(self, pipe: OutputPipe, deadline: float) -> DrainResult:
        for _ in range(_DRAIN_ROUNDS):
            hung_up = _has_hung_up(pipe.descriptor)
            waiting = bytes_waiting(pipe.descriptor)
            if not waiting:
                if hung_up or time.monotonic() >= deadline:
                    self._close_pipe(pipe)
                    return DrainResult.ENDED
                return DrainResult.OPEN
            if not self._move_to_journal(pipe, waiting):
                return DrainResult.PAUSED
        # The pipe was filled again many times, although all processes of the script's tree have
        # ended. So the writer is a process outside the tree, which may never stop printing.
        if time.monotonic() >= deadline:
            self._close_pipe(pipe)
            return DrainResult.ENDED
        return DrainResult.OPEN


def _has_hung_up(pipe: int) -> bool:
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
