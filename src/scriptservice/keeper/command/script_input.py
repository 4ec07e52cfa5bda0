"""The input of one interactive script: bytes wait in memory until the script reads.

`RunningCommand` makes and owns a `ScriptInput`. The keeper is the only authority on how much input
was accepted, so a client can repeat a request whose answer was lost, also after a server's death.
Accepted bytes survive an upgrade of the keeper. They are dropped when the script ends, or when it
closes its stdin.
"""

import os
import select
from base64 import b64decode, b64encode
from dataclasses import replace

from scriptservice.keeper.life.kept_command import KeptInput
from scriptservice.keeper.system.event_loop import HANGUP, WRITABLE, CallbackOwner, EventLoop
from scriptservice.protocol.frames import MAX_INPUT_BYTES, InputResult

_WRITE_BYTES = 64 << 10
_CTRL_D = b"\x04"
RETRY_SECONDS = 0.25
"""The pause before another attempt to write to a terminal that no process has open."""


class ScriptInput:
    """The input of one script, through a pipe or a terminal.

    Args:
        owner: the script's command; gets the exceptions of this object's callbacks, and must then
            call `start` again.
        kept: what is kept of the input. This object closes the descriptor in it.
        loop: watches the descriptor while bytes wait.
    """

    __slots__ = ("_kept", "_loop", "_owner", "_waiting")

    def __init__(self, owner: CallbackOwner, kept: KeptInput, loop: EventLoop) -> None:
        self._owner = owner
        self._kept = kept
        self._loop = loop
        self._waiting = bytearray(b64decode(kept.waiting))
        kept.waiting = ""

    @property
    def accepted_bytes(self) -> int:
        """How many bytes were accepted from clients."""
        return self._kept.accepted

    @property
    def waiting_bytes(self) -> int:
        """How many bytes wait until the script reads."""
        return len(self._waiting)

    def state(self) -> InputResult:
        """Return whether the input takes more bytes: ``ACCEPTED`` or ``CLOSED``."""
        kept = self._kept
        if kept.descriptor is not None and not kept.is_terminal and _has_no_reader(kept.descriptor):
            self.close()
        is_closed = kept.ends or kept.descriptor is None
        return InputResult.CLOSED if is_closed else InputResult.ACCEPTED

    def accept(self, data: bytes, *, offset: int | None, close: bool) -> InputResult:
        """Take all of some bytes, or nothing; call `start` afterwards if the script runs.

        Args:
            data: the bytes.
            offset: how many bytes must have been accepted before; None for any number.
            close: whether the input ends after these bytes.
        """
        kept = self._kept
        if offset is not None and offset != kept.accepted:
            return InputResult.OFFSET_MISMATCH
        if self.state() is InputResult.CLOSED:
            # To close again is no error, so that a request to close may be repeated.
            return InputResult.ACCEPTED if close and not data else InputResult.CLOSED
        if data and len(self._waiting) + len(data) > MAX_INPUT_BYTES:
            return InputResult.FULL
        kept.accepted += len(data)
        self._waiting += data
        if close:
            kept.ends = True
            if kept.is_terminal:
                self._waiting += _CTRL_D
        return InputResult.ACCEPTED

    def start(self) -> None:
        """Write what waits; call this when the process has become the script.

        Raises:
            OSError: the kernel accepts no more watches, or is short of memory. Call this again
                later.
        """
        if self._waiting or self._kept.ends:
            self._write(0)

    def _write(self, events: int) -> None:
        """Write as much as the script has room for, and then wait for room."""
        kept, waiting = self._kept, self._waiting
        if kept.descriptor is None:
            return
        try:
            while waiting:
                del waiting[: os.write(kept.descriptor, waiting[:_WRITE_BYTES])]
        except BlockingIOError:
            if events & HANGUP:
                # No process has the terminal open now. The kernel would report that all the time.
                self._loop.unwatch(kept.descriptor)
                self._loop.after(self._owner, RETRY_SECONDS, self.start)
            else:
                self._loop.watch(self._owner, kept.descriptor, self._write, WRITABLE)
            return
        except BrokenPipeError:
            # The script, and every process that has inherited its stdin, has closed it.
            self.close()
            return
        if kept.ends and not kept.is_terminal:
            self.close()
        else:
            self._loop.unwatch(kept.descriptor)

    def close(self) -> None:
        """Drop what waits, and close the descriptor: a script then reads the end of a pipe."""
        kept = self._kept
        self._waiting.clear()
        if kept.descriptor is not None:
            descriptor, kept.descriptor = kept.descriptor, None
            self._loop.unwatch(descriptor)
            os.close(descriptor)

    def to_kept(self) -> KeptInput:
        """Return what is kept of the input with the bytes that wait, for a hand-over."""
        return replace(self._kept, waiting=b64encode(self._waiting).decode())


def _has_no_reader(pipe: int) -> bool:
    """Return whether every process has closed the read end of a pipe."""
    poll = select.poll()
    poll.register(pipe, 0)
    return bool(poll.poll(0))
