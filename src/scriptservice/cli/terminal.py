"""Bytes of scripts on their way to a person's terminal or into a pipe.

Into a pipe or a file they go as they are. A terminal obeys escape sequences: what a script prints
could retitle the window, answer for the user, or hide what it did. So there, unless asked for
``--raw``, control characters are shown and not obeyed.
"""

import codecs
import os
import re
import sys
from typing import BinaryIO

# CSI, OSC and the like, whole; what is left of ESC after this is shown as ^[.
_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]+[0-~]|[0-Z\\-~])"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?\Z")
_LONGEST_UNFINISHED = 4096
_KEPT = {"\n", "\r", "\t"}


class TerminalText:
    """Makes one stream's bytes safe for a terminal, whatever pieces they come in."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes, *, final: bool = False) -> str:
        """Return the text of more bytes: no escape sequences, control characters made visible."""
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
    """Where one stream of a script's output goes.

    Args:
        file: stdout or stderr of this process, binary.
        raw: let escape sequences through to a terminal.
    """

    def __init__(self, file: BinaryIO, *, raw: bool) -> None:
        self._file = file
        self._text = None if raw or not file.isatty() else TerminalText()
        self.at_line_start = True

    def write(self, data: bytes, *, final: bool = False) -> None:
        """Write bytes now.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        if self._text is not None:
            data = self._text.feed(data, final=final).encode()
        if data:
            self._file.write(data)
            self._file.flush()
            self.at_line_start = data.endswith((b"\n", b"\r"))


def stdout(*, raw: bool) -> Sink:
    """Return the sink to this process's stdout."""
    return Sink(sys.stdout.buffer, raw=raw)


def stderr(*, raw: bool) -> Sink:
    """Return the sink to this process's stderr."""
    return Sink(sys.stderr.buffer, raw=raw)


def nobody_reads() -> None:
    """Let the interpreter end in silence after a broken pipe."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
