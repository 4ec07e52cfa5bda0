"""The output of one script: moves bytes from the script's pipes to the journal, up to a limit.

`RunningCommand` makes and owns a `ScriptOutput`. While the journal has no room, or while too much
earlier output is not yet stored in the database, the bytes stay in the pipe. If the pipe becomes
full, the script waits. A script with a terminal has that in place of the pipes; ``output_reading``
has the difference.
"""

import select
import time
from base64 import b64decode, b64encode
from dataclasses import replace
from typing import Protocol

from scriptservice.keeper.command.output_reading import OutputPipe, TerminalOutput
from scriptservice.keeper.journal.journal import Journal
from scriptservice.keeper.journal.journal_writer import NoRoomError
from scriptservice.keeper.life.events import DrainResult
from scriptservice.keeper.life.kept_command import KeptCommand, KeptInput
from scriptservice.keeper.system.event_loop import (
    HANGUP,
    CallbackOwner,
    EventLoop,
    Timer,
)
from scriptservice.protocol.journal_format import Kind

STDOUT, STDERR = 1, 2
WINDOW_BYTES = 8 << 20
"""The keeper counts a script's output in windows of this size.

When a window is full, further output waits until the database has stored everything that was in the
journal when that window began.
"""

_DISCARD_REPORT_SECONDS = 1.0
_TERMINAL_CHECK_SECONDS = 0.25
"""While no process has a script's terminal open, the keeper looks again after this pause."""
_DRAIN_ROUNDS = 256
"""One call of `ScriptOutput.drain` empties a pipe at most this many times."""


class OutputOwner(CallbackOwner, Protocol):
    """The part of a command that its output uses; see `RunningCommand`."""

    @property
    def id_bytes(self) -> bytes: ...  # noqa: D102

    def output_limit_reached(self) -> None:
        """Stop the script; called when the script has printed more than its output limit."""

    def output_progressed(self) -> None:
        """Continue to end the command.

        The output calls this when a pipe has ended, or when a paused pipe is read again.
        """


class ScriptOutput:
    """The output of one script: standard output and standard error.

    Args:
        command: the script's command.
        kept: what is kept of the command. This object reads the pipes in it and updates the fields
            that describe the output.
        loop: watches the pipes.
        journal: gets the output.
        null: a descriptor of /dev/null, open for writing; discarded output goes there.
    """

    __slots__ = ("_command", "_discard_timer", "_journal", "_kept", "_loop", "_null", "_pipes")

    def __init__(
        self,
        command: OutputOwner,
        kept: KeptCommand,
        loop: EventLoop,
        journal: Journal,
        null: int,
    ) -> None:
        self._command = command
        self._kept = kept
        self._loop = loop
        self._journal = journal
        self._null = null
        self._pipes = self._take_pipes()
        self._discard_timer: Timer | None = None
        if kept.discard_news_at is not None:
            self._discard_timer = loop.at(self, kept.discard_news_at, self._append_discarded)

    def _take_pipes(self) -> list[OutputPipe]:
        kept = self._kept
        if kept.input is None or not kept.input.is_terminal:
            return [OutputPipe(self, *pipe) for pipe in kept.streams]
        held, kept.input.unwritten = b64decode(kept.input.unwritten), ""
        return [TerminalOutput(self, *pipe, held=held) for pipe in kept.streams]

    def callback_failed(self, error: Exception) -> None:
        """Pass a failure on to the command, which looks again later."""
        self._command.callback_failed(error)

    def watch(self) -> None:
        """Begin to read the pipes; this has no effect on a pipe that is watched already."""
        for pipe in list(self._pipes):
            self._go_on(pipe)

    def _go_on(self, pipe: OutputPipe) -> None:
        """Watch a pipe, after the bytes that its reader holds are in the journal."""
        if self._move_held(pipe):
            self._loop.watch(pipe, pipe.descriptor, pipe.ready)

    def _move_held(self, pipe: OutputPipe) -> bool:
        """Move the bytes that a reader holds to the journal; return False if it was paused."""
        while held := pipe.held_bytes:
            if not self._move_to_journal(pipe, held):
                return False
        return True

    def close(self) -> None:
        """Close the pipes that are still open, and append no further DISCARDED record.

        The record is not needed, because CLOSED contains the final number of discarded bytes.
        """
        self._loop.cancel(self._discard_timer)
        for pipe in list(self._pipes):
            self._close_pipe(pipe)

    def pipe_ready(self, pipe: OutputPipe, events: int) -> None:
        """Move the bytes of a pipe to the journal, or close the pipe at its end."""
        waiting = pipe.waiting()
        if waiting:
            if self._move_to_journal(pipe, waiting):
                self._move_held(pipe)
        elif events & HANGUP:
            if pipe.may_open_again and not self._kept.exited:
                # Closing the terminal would send SIGHUP to the script, which may still run, and
                # may open its terminal again.
                self._loop.unwatch(pipe.descriptor)
                self._loop.after(pipe, _TERMINAL_CHECK_SECONDS, pipe.resume)
                return
            # The write end was closed before `waiting` found the pipe empty, so no bytes can
            # follow.
            self._close_pipe(pipe)
            self._command.output_progressed()

    def pipe_resumed(self, pipe: OutputPipe) -> None:
        """Watch a paused pipe again, unless it was closed meanwhile."""
        if pipe in self._pipes:
            self._go_on(pipe)
            self._command.output_progressed()

    def _move_to_journal(self, pipe: OutputPipe, waiting: int) -> bool:
        """Move bytes from a pipe to the journal; return False if the pipe was paused."""
        kept = self._kept
        room = waiting if kept.limit is None else kept.limit - kept.position
        if room <= 0:
            self._discard(pipe, waiting)
            return True
        journal = self._journal
        if kept.window_bytes >= WINDOW_BYTES:
            if journal.must_wait_for(kept.window_mark):
                self._loop.unwatch(pipe.descriptor)
                journal.wait_until_stored(pipe.descriptor, kept.window_mark, pipe)
                return False
            kept.window_bytes, kept.window_mark = 0, journal.end
        try:
            moved = pipe.move(journal, min(waiting, room), self._command.id_bytes, kept.position)
        except NoRoomError:
            # While the pipe waits, epoll must not watch it: a pipe with bytes, or without a writer,
            # is always ready, so the loop would never sleep.
            self._loop.unwatch(pipe.descriptor)
            journal.wait_for_room(pipe.descriptor, pipe)
            return False
        kept.position += moved
        kept.window_bytes += moved
        kept.stream_bytes[pipe.number] += moved
        if kept.stop_on_limit and waiting > room:
            self._command.output_limit_reached()
        return True

    def _discard(self, pipe: OutputPipe, waiting: int) -> None:
        kept = self._kept
        kept.discarded += pipe.discard(waiting, self._null)
        if kept.stop_on_limit:
            self._command.output_limit_reached()
        elif self._discard_timer is None and not kept.exited:
            kept.discard_news_at = time.monotonic() + _DISCARD_REPORT_SECONDS
            self._discard_timer = self._loop.at(self, kept.discard_news_at, self._append_discarded)

    def _append_discarded(self) -> None:
        self._discard_timer = self._kept.discard_news_at = None
        fields = {"discarded_bytes": self._kept.discarded}
        self._journal.append(Kind.DISCARDED, self._kept.id, fields, self._kept.position)

    def _close_pipe(self, pipe: OutputPipe) -> None:
        self._loop.unwatch(pipe.descriptor)
        self._journal.cancel_wait(pipe.descriptor)
        self._pipes.remove(pipe)
        self._kept.streams.remove([pipe.descriptor, pipe.number])
        pipe.close()

    def to_kept(self, kept_input: KeptInput) -> KeptInput:
        """Return what is kept of an input with the output that the terminal's reader holds."""
        held = b"".join(pipe.held for pipe in self._pipes if isinstance(pipe, TerminalOutput))
        return replace(kept_input, unwritten=b64encode(held).decode())

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
        hung_up = False
        for _ in range(_DRAIN_ROUNDS):
            hung_up = hung_up or _has_hung_up(pipe.descriptor)
            waiting = pipe.waiting()
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
    ready = poll.poll(0)
    return bool(ready and ready[0][1] & select.POLLHUP)
