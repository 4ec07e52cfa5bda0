"""The life of one script, from its process to the record that it is over.

Each method that moves the state is named after the event that moved it. The order at the end is
what the promises rest on: the script's exit is recorded, its tree is waited for and then ended,
its output is drained to the last byte, and only then is it closed.
"""

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from resource import struct_rusage
from typing import Any, Protocol
from uuid import UUID

from scriptservice.keeper.fault_points import reached
from scriptservice.keeper.journal import Kind
from scriptservice.keeper.journal_writer import NoRoomError
from scriptservice.keeper.ledger import Ledger
from scriptservice.keeper.linux import bytes_waiting, is_scarcity
from scriptservice.keeper.log import logger
from scriptservice.keeper.loop import HANGUP, Loop, Timer
from scriptservice.keeper.protocol import SpawnSpec
from scriptservice.keeper.spawn import Spawned
from scriptservice.keeper.table import CommandState
from scriptservice.keeper.tree import Tree

STDOUT, STDERR = 1, 2
LEFTOVER_KILL_SECONDS = 1.0
WINDOW_BYTES = 8 << 20
"""A script that printed this much waits until the window before it is recorded."""

_FIRST_LOOK_SECONDS = 0.005
_LAST_LOOK_SECONDS = 0.2
_DISCARD_NEWS_SECONDS = 1.0
_DRAIN_ROUNDS = 256


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every running command shares.

    Attributes:
        loop: events and timers.
        ledger: where what happens is recorded.
        tree: who belongs to which script.
        null: /dev/null, open for writing.
        remove_directory: removes a directory with its content, then calls back.
        closed: told when a command is over.
    """

    loop: Loop
    ledger: Ledger
    tree: Tree
    null: int
    remove_directory: Callable[[str, Callable[[], None]], None]
    closed: Callable[["RunningCommand"], None]


class _Owner(Protocol):
    def readable(self, stream: "Stream", events: int) -> None: ...
    def resumed(self, stream: "Stream") -> None: ...


class Stream:
    """The read end of one pipe of a script."""

    __slots__ = ("_owner", "bytes", "descriptor", "number")

    def __init__(self, owner: _Owner, descriptor: int, number: int) -> None:
        self._owner = owner
        self.descriptor = descriptor
        self.number = number
        self.bytes = 0

    def ready(self, events: int) -> None:
        """The pipe can be read, or nobody holds its other end any more."""
        self._owner.readable(self, events)

    def resume(self) -> None:
        """There is room for its bytes."""
        self._owner.resumed(self)


class RunningCommand:
    """One script that was started by this keeper.

    Args:
        spec: what was asked for.
        spawned: its process and pipes; owned by this object from now on.
        surroundings: shared by all.
    """

    __slots__ = (
        "_around", "_cause", "_discard_news", "_discarded", "_grace_seconds", "_handle",
        "_id_bytes", "_kill_at", "_killing", "_leftover_at", "_leftover_pids",
        "_leftover_seconds", "_limit", "_look_seconds", "_look_timer", "_pipes", "_position",
        "_private_directory", "_removing", "_start_ticks", "_stop_on_limit", "_stop_timer",
        "_stream_bytes", "_streams", "_termed", "_timeout_timer", "_tree_gone", "_window_bytes",
        "_window_mark", "exited", "id", "pid", "started",
    )  # fmt: skip

    def __init__(self, spec: SpawnSpec, spawned: Spawned, surroundings: Surroundings) -> None:
        self.id = spec.id
        self._id_bytes = UUID(spec.id).bytes
        self.pid = spawned.pid
        self.started = time.monotonic()
        self.exited = False
        self._around = surroundings
        self._handle = spawned.handle
        self._start_ticks = spawned.start_ticks
        self._pipes = spawned.pipes
        self._private_directory = spawned.private_directory
        self._removing = False
        self._grace_seconds = spec.grace_seconds
        self._leftover_seconds = spec.leftover_seconds
        self._limit = spec.output_limit_bytes
        self._stop_on_limit = spec.on_output_limit == "stop"
        self._position = 0
        self._stream_bytes = [0, 0, 0]
        self._discarded = 0
        self._discard_news: Timer | None = None
        self._window_bytes = self._window_mark = 0
        self._cause: str | None = None
        self._kill_at: float | None = None
        self._stop_timer: Timer | None = None
        self._killing = self._termed = self._tree_gone = False
        self._leftover_at = 0.0
        self._leftover_pids: set[int] | None = None
        self._look_seconds = _FIRST_LOOK_SECONDS
        self._look_timer: Timer | None = None
        self._streams = [
            Stream(self, spawned.stdout, STDOUT),
            Stream(self, spawned.stderr, STDERR),
        ]
        self._timeout_timer: Timer | None = None
        loop = surroundings.loop
        surroundings.ledger.record(Kind.STARTED, self.id, self._process_fields())
        reached("spawn.started")
        for stream in self._streams:
            loop.watch(stream.descriptor, stream.ready)
        loop.watch(self._handle, self._handle_ready)
        if spec.timeout_seconds is not None:
            self._timeout_timer = loop.after(spec.timeout_seconds, self._timed_out)

    def handed(self) -> CommandState:
        """Return all of it, for the keeper's next program."""
        kept = {name.removeprefix("_"): getattr(self, name) for name in _HANDED}
        leftovers = self._leftover_pids
        return CommandState(
            **kept,
            handle=None if self.exited else self._handle,
            pipes=list(self._pipes),
            streams=[[stream.descriptor, stream.number] for stream in self._streams],
            leftover_pids=None if leftovers is None else sorted(leftovers),
            timeout_at=_due(self._timeout_timer),
            discard_news_at=_due(self._discard_news),
        )

    @classmethod
    def restored(cls, state: CommandState, surroundings: Surroundings) -> "RunningCommand":
        """Return the command that the keeper's program before this one handed over.

        Whether it waited for room, for its recording or for its tree is found out by looking.
        """
        command = cls.__new__(cls)
        command.restore(state, surroundings)
        return command

    def restore(self, state: CommandState, surroundings: Surroundings) -> None:
        """Be what was handed over; called once, in the place of ``__init__``."""
        for name in _HANDED:
            setattr(self, name, getattr(state, name.removeprefix("_")))
        loop = surroundings.loop
        self._around = surroundings
        self._id_bytes = UUID(state.id).bytes
        self._pipes = (state.pipes[0], state.pipes[1])
        self._leftover_pids = None if state.leftover_pids is None else set(state.leftover_pids)
        self._streams = [Stream(self, *stream) for stream in state.streams]
        self._look_seconds = _FIRST_LOOK_SECONDS
        self._look_timer = self._stop_timer = None
        self._timeout_timer = _again(loop, state.timeout_at, self._timed_out)
        self._discard_news = _again(loop, state.discard_news_at, self._tell_discard)
        for stream in self._streams:
            loop.watch(stream.descriptor, stream.ready)
        self._handle = -1 if state.handle is None else state.handle
        if state.handle is not None:
            loop.watch(self._handle, self._handle_ready)
            if state.kill_at is not None and not state.killing:
                self._stop_timer = loop.at(state.kill_at, self._grace_over)
        if state.exited or state.killing:
            loop.defer(self._advance)

    @property
    def removed(self) -> Callable[[], None]:
        """To be called when its private directory is gone."""
        return self._over

    def _process_fields(self) -> dict[str, Any]:
        return {
            "pid": self.pid,
            "start_ticks": self._start_ticks,
            "pipes": list(self._pipes),
            "output_limit_bytes": self._limit,
        }

    def snapshot(self) -> dict[str, Any]:
        """Return what a later keeper needs to end this command after this one's death."""
        return {
            "id": self.id,
            **self._process_fields(),
            "position": self._position,
            "exited": self.exited,
            "cause": self._cause,
            "leftovers_killed": len(self._leftover_pids or ()),
            "discarded_bytes": self._discarded,
        }

    # Output

    def readable(self, stream: Stream, events: int) -> None:
        """A pipe has bytes, or has ended."""
        waiting = bytes_waiting(stream.descriptor)
        if waiting:
            self._take(stream, waiting)
        elif events & HANGUP:
            # Nobody held the other end before the pipe was found empty: nothing can follow.
            self._close_stream(stream)
            if self.exited:
                self._advance()

    def resumed(self, stream: Stream) -> None:
        """There is room again for a pipe that waited."""
        if stream in self._streams:
            self._around.loop.watch(stream.descriptor, stream.ready)
            if self.exited:
                self._advance()

    def _take(self, stream: Stream, waiting: int) -> bool:
        """Move what waits in a pipe to the journal; return whether the pipe is still read."""
        room = waiting if self._limit is None else self._limit - self._position
        if room <= 0:
            self._discard(stream, waiting)
            return True
        ledger = self._around.ledger
        if self._window_bytes >= WINDOW_BYTES:
            if ledger.must_wait_for(self._window_mark):
                self._around.loop.unwatch(stream.descriptor)
                ledger.wait_for_recording(stream.descriptor, self._window_mark, stream)
                return False
            self._window_bytes, self._window_mark = 0, ledger.end
        try:
            moved = ledger.splice(
                stream.descriptor,
                min(waiting, room),
                self._id_bytes,
                stream.number,
                self._position,
            )
        except NoRoomError:
            # Out of epoll altogether: a full pipe, or a closed one, would be ready at every turn.
            self._around.loop.unwatch(stream.descriptor)
            ledger.wait_for_room(stream.descriptor, stream)
            return False
        self._position += moved
        self._window_bytes += moved
        self._stream_bytes[stream.number] += moved
        if self._stop_on_limit and waiting > room:
            self._limit_passed()
        return True

    def _discard(self, stream: Stream, waiting: int) -> None:
        with suppress(BlockingIOError):  # the script has read its own pipe meanwhile
            self._discarded += os.splice(
                stream.descriptor, self._around.null, waiting, flags=os.SPLICE_F_NONBLOCK
            )
        if self._stop_on_limit:
            self._limit_passed()
        elif self._discard_news is None and not self.exited:
            self._discard_news = self._around.loop.after(_DISCARD_NEWS_SECONDS, self._tell_discard)

    def _tell_discard(self) -> None:
        self._discard_news = None
        fields = {"discarded_bytes": self._discarded}
        self._around.ledger.record(Kind.DISCARDED, self.id, fields, self._position)

    def _limit_passed(self) -> None:
        if not self.exited and self._cause is None:
            self.stop("limit", signal.SIGTERM, self._grace_seconds)

    def _close_stream(self, stream: Stream) -> None:
        self._around.loop.unwatch(stream.descriptor)
        self._around.ledger.cancel_wait(stream.descriptor)
        self._streams.remove(stream)
        os.close(stream.descriptor)

    # Ending

    def stop(self, cause: str, number: int, grace_seconds: float) -> None:
        """Someone or something wants it to end; the first cause is the one that counts.

        Args:
            cause: stop, timeout, limit or shutdown.
            number: the signal for its process group.
            grace_seconds: from now to SIGKILL of the whole tree; may shorten an earlier one.
        """
        now = time.monotonic()
        kill_at = now + grace_seconds
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)
        if self.exited:
            # Its own exit decides; what is left of its tree is not to outlive the request.
            self._leftover_at = min(self._leftover_at, now)
            self._advance()
            return
        if self._cause is None:
            self._cause = cause
            fields = {"cause": cause, "signal": signal.Signals(number).name}
            reached("stop.asked")
            self._around.ledger.record(Kind.STOPPING, self.id, fields, self._position)
            reached("stop.recorded")
            if grace_seconds > 0:
                self._signal_group(number)
                # A stopped process keeps the signal pending until it goes on.
                self._signal_group(signal.SIGCONT)
                reached("stop.signalled")
        self._around.loop.cancel(self._stop_timer)
        self._stop_timer = None
        if self._kill_at <= now:
            self._grace_over()
        else:
            self._stop_timer = self._around.loop.at(self._kill_at, self._grace_over)

    def shut_down(self, grace_seconds: float) -> None:
        """The service ends; grace is at most what is given and what the command asked for."""
        self.stop("shutdown", signal.SIGTERM, min(grace_seconds, self._grace_seconds))

    def _signal_group(self, number: int) -> None:
        # Its leader is not reaped yet, so the group's id cannot be another's.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _timed_out(self) -> None:
        self._timeout_timer = None
        self.stop("timeout", signal.SIGTERM, self._grace_seconds)

    def _grace_over(self) -> None:
        reached("stop.killing")
        self._stop_timer = None
        self._killing = True
        self._look_seconds = _FIRST_LOOK_SECONDS
        self._advance()

    def _handle_ready(self, _: int) -> None:
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid:
            self.reaped(status, usage)

    def reaped(self, status: int, usage: struct_rusage) -> None:
        """The script's own process ended and was reaped.

        Args:
            status: as ``waitpid`` returns it.
            usage: of the process and of the children it waited for.
        """
        reached("end.reaped")
        loop = self._around.loop
        loop.unwatch(self._handle)
        os.close(self._handle)
        self.exited = True
        loop.cancel(self._timeout_timer)
        loop.cancel(self._stop_timer)
        self._timeout_timer = self._stop_timer = None
        fields = {
            "status": status,
            "user_seconds": round(usage.ru_utime, 6),
            "system_seconds": round(usage.ru_stime, 6),
            "max_rss_bytes": usage.ru_maxrss * 1024,
        }
        self._around.ledger.record(Kind.EXITED, self.id, fields, self._position)
        reached("end.exited")
        self._leftover_at = time.monotonic() + self._leftover_seconds
        if self._kill_at is not None:
            # Nobody is waited for beyond the grace of a stop, a stranger with the pipe included.
            self._leftover_at = min(self._leftover_at, self._kill_at)
        self._look_seconds = _FIRST_LOOK_SECONDS
        # In the same batch others may have ended too; and what is deferred may open descriptors.
        loop.defer(self._advance)

    def _advance(self) -> None:
        """Go as far towards the end as possible now; look again later if that is not all."""
        self._around.loop.cancel(self._look_timer)
        self._look_timer = None
        if self._removing:
            return
        if not self._tree_gone and not self._end_tree():
            return
        for stream in list(self._streams):
            if not self._drain(stream):
                return
        self._close()

    def _end_tree(self) -> bool:
        now = time.monotonic()
        if not self._killing and not self.exited:
            return False
        try:
            gone = self._end_some_of_tree(now)
        except OSError as error:
            if not is_scarcity(error):
                raise
            if self._look_seconds == _FIRST_LOOK_SECONDS:
                logger.warning("tree_waits", command_id=self.id, detail=str(error))
            gone = False  # nobody is taken for gone who was not looked at
        if gone:
            self._tree_gone = True
        else:
            self._look_again(now)
        return gone

    def _end_some_of_tree(self, now: float) -> bool:
        tree = self._around.tree
        if not self._killing:
            return tree.empty(self) or self._end_leftovers(now)
        if self.exited:
            self._count_leftovers(tree.signal(self, signal.SIGKILL))
        return tree.kill(self) and self.exited

    def _end_leftovers(self, now: float) -> bool:
        """Wait for background children, then ask them to end, then end them."""
        tree = self._around.tree
        kill_at = self._leftover_at + LEFTOVER_KILL_SECONDS
        if self._kill_at is not None:
            kill_at = min(kill_at, self._kill_at)
        if now >= kill_at:
            self._killing = True
            self._count_leftovers(tree.signal(self, signal.SIGKILL))
            return tree.kill(self)
        if now >= self._leftover_at and not self._termed:
            self._termed = True
            self._count_leftovers(tree.signal(self, signal.SIGTERM))
            tree.signal(self, signal.SIGCONT)
            self._look_seconds = _FIRST_LOOK_SECONDS
        return False

    def _count_leftovers(self, pids: set[int]) -> None:
        if pids:
            self._leftover_pids = (self._leftover_pids or set()) | pids

    def _look_again(self, now: float) -> None:
        moments = [now + self._look_seconds]
        if self.exited and not self._killing:
            if self._kill_at is not None:
                moments.append(self._kill_at)
            if not self._termed:
                moments.append(self._leftover_at)
            else:
                moments.append(self._leftover_at + LEFTOVER_KILL_SECONDS)
        self._look_seconds = min(self._look_seconds * 2, _LAST_LOOK_SECONDS)
        when = max(now, min(moments))
        self._look_timer = self._around.loop.at(when, self._advance)

    def _drain(self, stream: Stream) -> bool:
        """Read a pipe to its end, or to what is there if a stranger holds it open for too long.

        Returns:
            Whether it is closed; if not, this command is looked at again.
        """
        for _ in range(_DRAIN_ROUNDS):
            hung_up = _hung_up(stream.descriptor)
            waiting = bytes_waiting(stream.descriptor)
            if not waiting:
                if hung_up or time.monotonic() >= self._leftover_at:
                    self._close_stream(stream)
                    return True
                break
            if not self._take(stream, waiting):
                return False
        else:
            # Still full after its capacity many times over: whoever writes is not of this tree.
            if time.monotonic() >= self._leftover_at:
                self._close_stream(stream)
                return True
        self._look_again(time.monotonic())
        return False

    def _close(self) -> None:
        self._removing = True
        self._around.tree.forget(self)
        if self._private_directory is None:
            self._over()
        else:
            self._around.remove_directory(self._private_directory, self._over)

    def _over(self) -> None:
        self._around.loop.cancel(self._discard_news)
        fields = {
            "cause": self._cause,
            "leftovers_killed": len(self._leftover_pids or ()),
            "discarded_bytes": self._discarded,
            "stdout_bytes": self._stream_bytes[STDOUT],
            "stderr_bytes": self._stream_bytes[STDERR],
        }
        reached("end.drained")
        self._around.ledger.record(Kind.CLOSED, self.id, fields, self._position)
        reached("end.closed")
        self._around.closed(self)


# What is handed over as it is; the rest is made of it, or anew.
_HANDED = (
    "id", "pid", "started", "exited", "_start_ticks", "_private_directory", "_removing",
    "_grace_seconds", "_leftover_seconds", "_limit", "_stop_on_limit", "_position",
    "_stream_bytes", "_discarded", "_window_bytes", "_window_mark", "_cause", "_kill_at",
    "_killing", "_termed", "_tree_gone", "_leftover_at",
)  # fmt: skip


def _due(timer: Timer | None) -> float | None:
    return None if timer is None or timer.callback is None else timer.when


def _again(loop: Loop, when: float | None, callback: Callable[[], None]) -> Timer | None:
    return None if when is None else loop.at(when, callback)


def _hung_up(pipe: int) -> bool:
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
