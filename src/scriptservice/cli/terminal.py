"""Writes the output of scripts to a terminal, a pipe or a file.

A pipe or a file gets the bytes as they are. A terminal obeys escape sequences. With escape
sequences a script could change the window's title, type an answer for the user, or hide what the
script did. So on a terminal this module removes escape sequences and makes control characters
visible, unless the user gives ``--raw``.
"""

import codecs
import os
import re
import select
import sys
from typing import BinaryIO

# This matches complete escape sequences, such as CSI and OSC. `_visible` shows any other ESC as ^[.
_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]+[0-~]|[0-Z\\-~])"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?\Z")
_LONGEST_UNFINISHED = 4096
_KEPT = {"\n", "\r", "\t"}


class TerminalText:
    """Makes a stream of bytes safe for a terminal. The bytes may be cut into pieces anywhere."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes, *, final: bool = False) -> str:
        """Return further bytes as text, without escape sequences and with visible controls.

        Args:
            data: the bytes. If they end inside an escape sequence or a character, the incomplete
                sequence or character is kept for the next call.
            final: whether this is the last call. If so, nothing is kept.
        """
        text = self._rest + self._decoder.decode(data, final)
        self._rest = ""
        text = _SEQUENCE.sub("", text)
        unfinished = None if final else _UNFINISHED.search(text)
        if unfinished and len(unfinished.group()) < _LONGEST_UNFINISHED:
            self._rest = unfinished.group()
            text = text[: unfinished.start()]
        return "".join(map(_visible, text))


def _visible(character: str) -> str:
    number = ord(character)
    if number >= 0xA0 or 0x20 <= number < 0x7F or character in _KEPT:
        return character
    if number < 0x20:
        return f"^{chr(number + 64)}"
    return "^?" if number == 0x7F else f"\\x{number:02x}"


class Sink:
    """Writes one stream of a script's output.

    Args:
        file: stdout or stderr of this process, as a binary file.
        raw: whether escape sequences are passed on to a terminal.

    Attributes:
        at_line_start: whether the next byte begins a line.
    """

    def __init__(self, file: BinaryIO, *, raw: bool) -> None:
        self._file = file
        self._text = None if raw or not file.isatty() else TerminalText()
        self.at_line_start = True

    def write(self, data: bytes, *, final: bool = False) -> None:
        """Write bytes, and flush the file.

        Args:
            data: the bytes.
            final: whether these are the last bytes of the stream.

        Raises:
            BrokenPipeError: the file is a pipe that its reader has closed.
        """
        if self._text is not None:
            data = self._text.feed(data, final=final).encode()
        if data:
            self._file.write(data)
            self._file.flush()
            self.at_line_start = data.endswith((b"\n", b"\r"))


def stdout(*, raw: bool) -> Sink:
    """Return a sink that writes to this process's stdout."""
    return Sink(sys.stdout.buffer, raw=raw)


def stderr(*, raw: bool) -> Sink:
    """Return a sink that writes to this process's stderr."""
    return Sink(sys.stderr.buffer, raw=raw)


def discard_closed_pipes() -> None:
    """Redirect stdout and stderr to /dev/null if they are pipes that their readers have closed.

    After that, neither a message nor Python's last flush can fail.
    """
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    for descriptor, event in poll.poll(0):
        if event & (select.POLLERR | select.POLLHUP):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)


def printable(text: str) -> str:
    """Return a text with each unprintable character replaced by a space."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
