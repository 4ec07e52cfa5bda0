"""The output of one script: its pipes, emptied into the journal up to a limit.

Made and owned by its command. A byte is in its pipe or in the journal, never in between; where
there is no room, or what was printed before is not recorded yet, it stays in the pipe and the
script waits.
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
"""A script that printed this much waits until the window before it is recorded."""

_DISCARD_NEWS_SECONDS = 1.0
_DRAIN_ROUNDS = 256


class OutputOwner(Protocol):
    """The command, as its output sees it."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def id_bytes(self) -> bytes: ...  # noqa: D102
    @property
    def exited(self) -> bool: ...  # noqa: D102

    def limit_passed(self) -> None:
        """It has printed more than is to be kept, and is to be stopped for that."""

    def output_goes_on(self) -> None:
        """A pipe has ended, or one that waited is read again."""


class DrainResult(Enum):
    """How far an attempt to read all pipes to their ends has come."""

    ENDED = auto()
    WAITS = auto()
    """The command is told when it goes on."""
    OPEN = auto()
    """Somebody holds a pipe open: it is to be tried again."""


class OutputPipe:
    """The read end of one pipe of a script."""

    __slots__ = ("_output", "descriptor", "number")

    def __init__(self, output: "ScriptOutput", descriptor: int, number: int) -> None:
        self._output = output
        self.descriptor = descriptor
        self.number = number

    def ready(self, events: int) -> None:
        """The pipe can be read, or nobody holds its other end any more."""
        self._output.readable(self, events)

    def resume(self) -> None:
        """There is room for its bytes."""
        self._output.resumed(self)


class ScriptOutput:
    """What one script prints.

    Args:
        command: whose.
        loop: that tells what can be read.
        journal: where the bytes go.
        null: /dev/null, open for writing, for what is discarded.
        limit_bytes: of both streams together; None for no limit.
        stop_on_limit: whether the command is told when it is passed; else the rest is counted.
        streams: descriptor and number of each pipe's read end, owned by this object from now on.

    Attributes:
        position: bytes that are in the journal, of both streams.
        stream_bytes: the same by number of the stream.
        discarded: bytes that were dropped.
    """

    __slots__ = (
        "_command", "_discard_news", "_journal", "_limit", "_loop", "_null", "_stop_on_limit",
        "_streams", "_window_bytes", "_window_mark", "discarded", "position", "stream_bytes",
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
        self._discard_news: Timer | None = None
        self._window_bytes = self._window_mark = 0
        self._streams = [OutputPipe(self, *stream) for stream in streams]

    def to_state(self) -> dict[str, Any]:
        """Return all of it, as fields of a `CommandState`."""
        return {
            "limit": self._limit,
            "stop_on_limit": self._stop_on_limit,
            "streams": [[stream.descriptor, stream.number] for stream in self._streams],
            "position": self.position,
            "stream_bytes": self.stream_bytes,
            "discarded": self.discarded,
            "window_bytes": self._window_bytes,
            "window_mark": self._window_mark,
            "discard_news_at": None if self._discard_news is None else self._discard_news.due,
        }

    def restore(self, state: CommandState) -> None:
        """Go on where the keeper's program before this one was; called before `watch`."""
        self.position = state.position
        self.stream_bytes = state.stream_bytes
        self.discarded = state.discarded
        self._window_bytes, self._window_mark = state.window_bytes, state.window_mark
        if state.discard_news_at is not None:
            self._discard_news = self._loop.at(state.discard_news_at, self._tell_discard)

    @property
    def limit_bytes(self) -> int | None:
        """How much is kept at most, None for all."""
        return self._limit

    def watch(self) -> None:
        """Read from now on."""
        for stream in self._streams:
            self._loop.watch(stream.descriptor, stream.ready)

    def close(self) -> None:
        """It is complete: nothing more is told of it."""
        self._loop.cancel(self._discard_news)

    def readable(self, stream: OutputPipe, events: int) -> None:
        """A pipe has bytes, or has ended."""
        waiting = bytes_waiting(stream.descriptor)
        if waiting:
            self._take(stream, waiting)
        elif events & HANGUP:
            # Nobody held the other end before the pipe was found empty: nothing can follow.
            self._end(stream)
            self._command.output_goes_on()

    def resumed(self, stream: OutputPipe) -> None:
        """There is room again for a pipe that waited."""
        if stream in self._streams:
            self._loop.watch(stream.descriptor, stream.ready)
            self._command.output_goes_on()

    def _take(self, stream: OutputPipe, waiting: int) -> bool:
        """Move what waits in a pipe to the journal; return whether the pipe is still read."""
        room = waiting if self._limit is None else self._limit - self.position
        if room <= 0:
            self._discard(stream, waiting)
            return True
        journal = self._journal
        if self._window_bytes >= WINDOW_BYTES:
            if journal.must_wait_for(self._window_mark):
                self._loop.unwatch(stream.descriptor)
                journal.wait_until_stored(stream.descriptor, self._window_mark, stream)
                return False
            self._window_bytes, self._window_mark = 0, journal.end
        try:
            moved = journal.splice(
                stream.descriptor,
                min(waiting, room),
                self._command.id_bytes,
                stream.number,
                self.position,
            )
        except NoRoomError:
            # Out of epoll altogether: a full pipe, or a closed one, would be ready at every turn.
            self._loop.unwatch(stream.descriptor)
            journal.wait_for_room(stream.descriptor, stream)
            return False
        self.position += moved
        self._window_bytes += moved
        self.stream_bytes[stream.number] += moved
        if self._stop_on_limit and waiting > room:
            self._command.limit_passed()
        return True

    def _discard(self, stream: OutputPipe, waiting: int) -> None:
        with suppress(BlockingIOError):  # the script has read its own pipe meanwhile
            self.discarded += os.splice(
                stream.descriptor, self._null, waiting, flags=os.SPLICE_F_NONBLOCK
            )
        if self._stop_on_limit:
            self._command.limit_passed()
        elif self._discard_news is None and not self._command.exited:
            self._discard_news = self._loop.after(_DISCARD_NEWS_SECONDS, self._tell_discard)

    def _tell_discard(self) -> None:
        self._discard_news = None
        fields = {"discarded_bytes": self.discarded}
        self._journal.append(Kind.DISCARDED, self._command.id, fields, self.position)

    def _end(self, stream: OutputPipe) -> None:
        self._loop.unwatch(stream.descriptor)
        self._journal.cancel_wait(stream.descriptor)
        self._streams.remove(stream)
        os.close(stream.descriptor)

    def drain(self, until: float) -> DrainResult:
        """Read every pipe to its end, or to what is there if a stranger holds it for too long.

        Args:
            until: when it is too long, by the monotonic clock.
        """
        for stream in list(self._streams):
            drained = self._drain(stream, until)
            if drained is not DrainResult.ENDED:
                return drained
        return DrainResult.ENDED

    def _drain(self, stream: OutputPipe, until: float) -> DrainResult:
        for _ in range(_DRAIN_ROUNDS):
            hung_up = _hung_up(stream.descriptor)
            waiting = bytes_waiting(stream.descriptor)
            if not waiting:
                if hung_up or time.monotonic() >= until:
                    self._end(stream)
                    return DrainResult.ENDED
                return DrainResult.OPEN
            if not self._take(stream, waiting):
                return DrainResult.WAITS
        # Still full after its capacity many times over: whoever writes is not of this tree.
        if time.monotonic() >= until:
            self._end(stream)
            return DrainResult.ENDED
        return DrainResult.OPEN


def _hung_up(pipe: int) -> bool:
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
