"""A line of log and the stderr it goes to: what keeper and server have in common.

Both write to one stderr, which may be a full pipe, a terminal that is gone, or closed. Neither may
wait for whoever reads it, nor die of it: a line that cannot be written now is dropped and counted.
A line is one write, and short enough that the kernel puts no other process's bytes inside it.
"""

import errno
import json
import logging
import os
import re
import select
import stat
import traceback
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from scriptservice.protocol.clock import now_us

LINE_BYTES = select.PIPE_BUF
"""A pipe takes so much at once or nothing of it."""

_STDERR = 2
_PLAIN = re.compile(r"[\w./:+@%-]+", re.ASCII)
_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


KEEPER_LOGGER = "scriptservice.keeper"
"""The keeper's logger; the lines of any other name it."""

_LEVELS = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
}


class LogWriter:
    """Makes lines of one component, and writes them to stderr.

    Args:
        component: ``keeper`` or ``server``.
        host: this machine's name among hosts.
        form: ``json``, or ``console`` for lines that people read.
    """

    def __init__(self, component: str, host: str, form: str) -> None:
        self._component = component
        self._host = host
        self._line = self._json if form == "json" else self._console
        self._last_word = f"host={_word(host)}\n"
        self._never_waits = _may_be_full()
        self._torn = False
        self._dropped = 0

    def line(self, at_us: int, level: str, event: str, fields: Mapping[str, Any]) -> bytes:
        """Return a line, with its end.

        Args:
            at_us: when it happened, microseconds since 1970 UTC.
            level: debug, info, warning or error.
            event: what happened.
            fields: more of it; whatever is no JSON is shown as text.
        """
        data = self._line(at_us, level, event, fields)
        if len(data) > LINE_BYTES:
            data = self._line(at_us, level, *_shortened(event, fields))
        return data

    # Everything that is not ASCII is escaped, in both forms: nothing in a line moves a terminal's
    # cursor or begins another line.

    def _json(self, at_us: int, level: str, event: str, fields: Mapping[str, Any]) -> bytes:
        said = {
            "timestamp": _time_text(at_us),
            "level": level,
            "event": event,
            "component": self._component,
            "host": self._host,
            **fields,
        }
        return _encode(said).encode() + b"\n"

    def _console(self, at_us: int, level: str, event: str, fields: Mapping[str, Any]) -> bytes:
        words = [_time_text(at_us), f"{level:7}", self._component, _word(event)]
        words += [f"{name}={_word(value)}" for name, value in fields.items() if value is not None]
        words.append(self._last_word)
        return " ".join(words).encode()

    def write(self, at_us: int, lines: Iterable[bytes]) -> None:
        """Write lines, as many in one write as stay whole; drop those for which there is no room.

        Args:
            at_us: the time of day, for the line that tells how many were dropped before.
            lines: from `line`.
        """
        if self._dropped:
            loss = self.line(at_us, "warning", "log_lines_dropped", {"lines": self._dropped})
            if self._write([loss]):
                self._dropped = 0
        parts: list[bytes] = []
        size = 0
        for line in lines:
            if size + len(line) > LINE_BYTES:
                self._write_or_count(parts)
                parts, size = [], 0
            parts.append(line)
            size += len(line)
        self._write_or_count(parts)

    def _write_or_count(self, parts: list[bytes]) -> None:
        if parts and not self._write(parts):
            self._dropped += len(parts)

    def _write(self, parts: list[bytes]) -> bool:
        """Write lines at once; return False if nothing was written."""
        data = b"".join([b"\n", *parts] if self._torn else parts)
        try:
            written = self._put(data)
        except (OSError, ValueError):
            return False
        self._torn = written < len(data)
        return True

    def _put(self, data: bytes) -> int:
        """Write without waiting; return how much was taken.

        Raises:
            OSError: there is no room now, or nobody reads.
        """
        if self._never_waits:
            try:
                # What select says may be untrue a moment later: the other process writes as well.
                return os.pwritev(_STDERR, [data], -1, os.RWF_NOWAIT)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise
                self._never_waits = False  # an older kernel
        if not select.select([], [_STDERR], [], 0)[1]:
            raise BlockingIOError
        return os.write(_STDERR, data)


def _may_be_full() -> bool:
    """Whether stderr is a pipe or a socket: a file has no reader to wait for.

    Asked not to wait, some file systems refuse what they would do at once.
    """
    try:
        mode = os.fstat(_STDERR).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _time_text(at_us: int) -> str:
    return f"{_second_text(at_us // 1_000_000)}.{at_us % 1_000_000:06}Z"


@lru_cache(maxsize=4)
def _second_text(seconds: int) -> str:
    # A thousand lines a second share it, and it costs as much as the rest of a line.
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def _word(value: object) -> str:
    if type(value) is int:
        return str(value)
    text = value if isinstance(value, str) else _encode(value)
    return text if _PLAIN.fullmatch(text) else _encode(text)


def _shortened(event: str, fields: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return what fits into a line: of long texts their ends, which in a trace say the most."""
    texts = [event, *(value for value in fields.values() if isinstance(value, str))]
    # A character may take twelve bytes: an escaped pair of surrogates, quoted once more.
    room = (LINE_BYTES - 1024) // (12 * len(texts))
    short = {
        name: value[-room:] if isinstance(value, str) and len(value) > room else value
        for name, value in fields.items()
        if isinstance(value, str | int | float | bool | None)
    }
    return event[-room:], short


class LogLineHandler(logging.Handler):
    """Writes records of the standard library's logging as lines.

    Args:
        lines: makes and writes them.
    """

    def __init__(self, lines: LogWriter) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        if record.name != KEEPER_LOGGER:
            fields["logger"] = record.name
        if record.exc_info and record.exc_info[0]:
            fields["exception"] = "".join(traceback.format_exception(*record.exc_info))
        at = now_us()
        level = _LEVELS.get(record.levelno, "error")
        self._lines.write(at, [self._lines.line(at, level, record.getMessage(), fields)])
