"""Reads a script's output from one of its pipes, or from its terminal.

From a pipe, the kernel moves the bytes to the journal, so that each byte is in the pipe or in the
journal, never in between. It cannot do that from a terminal, so the keeper reads these bytes and
appends them. Bytes that it cannot append yet are held in memory, and an upgrade hands them over. If
the keeper is killed, they are lost, as is everything in the terminal: a terminal ends with the
keeper, and a pipe does not.
"""

import errno
import os
from contextlib import suppress
from typing import Protocol

from scriptservice.keeper.journal.journal import Journal
from scriptservice.keeper.system.linux import bytes_waiting

_HELD_BYTES = 64 << 10


class PipeOwner(Protocol):
    """The part of `ScriptOutput` that its pipes use."""

    def pipe_ready(self, pipe: "OutputPipe", events: int) -> None:
        """Handle an event of a pipe."""

    def pipe_resumed(self, pipe: "OutputPipe") -> None:
        """Read a paused pipe again."""

    def callback_failed(self, error: Exception) -> None:
        """Look at the pipe again later."""


class OutputPipe:
    """One of the two pipes to which a script prints.

    Attributes:
        descriptor: the descriptor of the pipe's read end.
        number: 1 for stdout, 2 for stderr.
    """

    __slots__ = ("_output", "descriptor", "number")

    def __init__(self, output: PipeOwner, descriptor: int, number: int) -> None:
        self._output = output
        self.descriptor = descriptor
        self.number = number

    def ready(self, events: int) -> None:
        """Handle an event: the pipe has bytes, or every process has closed the write end."""
        self._output.pipe_ready(self, events)

    def resume(self) -> None:
        """Read the pipe again; see `PausedReader`."""
        self._output.pipe_resumed(self)

    def callback_failed(self, error: Exception) -> None:
        """Pass the failure of `ready` or `resume` on to the command."""
        self._output.callback_failed(error)

    @property
    def may_open_again(self) -> bool:
        """Whether a process may open the write end after all processes have closed it."""
        return False

    @property
    def held_bytes(self) -> int:
        """How many bytes this object holds; the event loop does not report these."""
        return 0

    def waiting(self) -> int:
        """Return how many bytes can be moved now."""
        return bytes_waiting(self.descriptor)

    def move(self, journal: Journal, length: int, command_id: bytes, position: int) -> int:
        """Move bytes to the journal; see `JournalWriter.splice`.

        Raises:
            NoRoomError: nothing was moved.
        """
        return journal.splice(self.descriptor, length, command_id, self.number, position)

    def discard(self, length: int, null: int) -> int:
        """Drop bytes; return how many.

        Args:
            length: how many bytes to drop at most.
            null: a descriptor of /dev/null, open for writing.
        """
        with suppress(BlockingIOError):  # the script may have read its own pipe meanwhile
            return os.splice(self.descriptor, null, length, flags=os.SPLICE_F_NONBLOCK)
        return 0

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)


class TerminalOutput(OutputPipe):
    """The keeper's side of a script's terminal, as the source of output.

    Args:
        output: the output of the script.
        descriptor: the keeper's side of the terminal, which is non-blocking.
        number: 1, since all output of a terminal counts as stdout.
        held: bytes that the keeper's previous program has read and not appended to the journal.

    Attributes:
        held: bytes that were read and are not in the journal.
    """

    __slots__ = ("held",)

    def __init__(self, output: PipeOwner, descriptor: int, number: int, *, held: bytes) -> None:
        super().__init__(output, descriptor, number)
        self.held = held

    @property
    def may_open_again(self) -> bool:
        """Whether a process may open the script's side after all processes have closed it."""
        return True

    @property
    def held_bytes(self) -> int:
        """How many bytes were read and are not in the journal."""
        return len(self.held)

    def waiting(self) -> int:
        """Read from the terminal; return how many bytes are held now."""
        if not self.held:
            parts: list[bytes] = []
            size = 0
            try:
                while size < _HELD_BYTES and (part := os.read(self.descriptor, _HELD_BYTES)):
                    parts.append(part)
                    size += len(part)
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno != errno.EIO:  # EIO: no process has the script's side open
                    raise
            finally:
                self.held = b"".join(parts)
        return len(self.held)

    def move(self, journal: Journal, length: int, command_id: bytes, position: int) -> int:
        """See `OutputPipe.move`."""
        journal.append_output(self.held[:length], command_id, self.number, position)
        return self.discard(length, -1)

    def discard(self, length: int, null: int) -> int:  # noqa: ARG002 - nothing is written to it
        """See `OutputPipe.discard`."""
        dropped = self.held[:length]
        self.held = self.held[length:]
        return len(dropped)
