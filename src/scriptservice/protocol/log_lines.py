"""Formats log lines and writes them to stderr, for the keeper and the server.

Both processes write to the same stderr, which may be a full pipe, a terminal that no longer exists,
or a closed descriptor. A process must not wait for a reader of its lines, and must not fail because
there is no reader. So a line that cannot be written now is dropped and counted. Each line is short
and is written by one system call, so the kernel never mixes lines of the two processes.
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
"""The maximum length of a line, in bytes.

A pipe takes a write of at most this length either completely or not at all.
"""

_STDERR = 2
_NEEDS_NO_QUOTES = re.compile(r"[\w./:+@%-]+", re.ASCII)
_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


KEEPER_LOGGER = "scriptservice.keeper"
"""The name of the keeper's logger; a line of any other logger has a field ``logger``."""

_LEVELS = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
}


class LogWriter:
    """Formats the log lines of one component and writes them to stderr.

    Args:
        component: ``keeper`` or ``server``.
        host: the name of this host.
        log_format: ``json`` for lines that programs read, ``console`` for lines that people read.
    """

    def __init__(self, component: str, host: str, log_format: str) -> None:
        self._component = component
        self._host = host
        self._format = self._format_json if log_format == "json" else self._format_console
        self._host_word = f"host={_word(host)}\n"
        self._can_write_nowait = _has_reader()
        self._line_unfinished = False
        self._dropped = 0

    def format_line(self, at_us: int, level: str, event: str, fields: Mapping[str, Any]) -> bytes:
        """Return a line with its newline, at most `LINE_BYTES` long.

        Args:
            at_us: when the event happened, microseconds since 1970 UTC.
            level: debug, info, warning or error.
            event: the event's name.
            fields: the event's details. A value that JSON cannot represent is written as the text
                that `str` returns for it.
        """
        data = self._format(at_us, level, event, fields)
        if len(data) > LINE_BYTES:
            data = self._format(at_us, level, *_shortened(event, fields))
        return data

    # Both formats escape everything that is not ASCII, so that no value can move a terminal's
    # cursor or begin another line.

    def _format_json(self, at_us: int, level: str, event: str, fields: Mapping[str, Any]) -> bytes:
        line = {
            "timestamp": _time_text(at_us),
            "level": level,
            "event": event,
            "component": self._component,
            "host": self._host,
            **fields,
        }
        return _encode(line).encode() + b"\n"

    def _format_console(
        self, at_us: int, level: str, event: str, fields: Mapping[str, Any]
    ) -> bytes:
        words = [_time_text(at_us), f"{level:7}", self._component, _word(event)]
        words += [f"{name}={_word(value)}" for name, value in fields.items() if value is not None]
        words.append(self._host_word)
        return " ".join(words).encode()

    def write(self, at_us: int, lines: Iterable[bytes]) -> None:
        """Write lines, and drop the lines for which stderr has no room.

        Each write to stderr contains as many lines as fit into `LINE_BYTES`.

        Args:
            at_us: the present time, in microseconds since 1970 UTC. If lines were dropped before,
                the line that reports their number gets this time.
            lines: lines that `format_line` returned.
        """
        if self._dropped:
            loss = self.format_line(at_us, "warning", "log_lines_dropped", {"lines": self._dropped})
            if self._write_parts([loss]):
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
        if parts and not self._write_parts(parts):
            self._dropped += len(parts)

    def _write_parts(self, parts: list[bytes]) -> bool:
        """Write lines in one write; return False if nothing was written."""
        data = b"".join([b"\n", *parts] if self._line_unfinished else parts)
        try:
            written = self._write_now(data)
        except (OSError, ValueError):
            return False
        self._line_unfinished = written < len(data)
        return True

    def _write_now(self, data: bytes) -> int:
        """Write without waiting; return how many bytes were written.

        Raises:
            OSError: stderr has no room now, or its other end is closed.
        """
        if self._can_write_nowait:
            try:
                # A `select` and then a usual write would not be safe: the other process may fill
                # the pipe between the two calls.
                return os.pwritev(_STDERR, [data], -1, os.RWF_NOWAIT)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise
                self._can_write_nowait = False  # the kernel is too old for this flag
        if not select.select([], [_STDERR], [], 0)[1]:
            raise BlockingIOError
        return os.write(_STDERR, data)


def _has_reader() -> bool:
    """Return whether stderr is a pipe or a socket, so that a write may have to wait for a reader.

    A write to a file does not wait for a reader. Some file systems refuse a write with RWF_NOWAIT
    although they have room, so a file is written without this flag.
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
    # The text is cached, because formatting it takes as long as formatting the rest of a line, and
    # many lines belong to the same second.
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def _word(value: object) -> str:
    if type(value) is int:
        return str(value)
    text = value if isinstance(value, str) else _encode(value)
    return text if _NEEDS_NO_QUOTES.fullmatch(text) else _encode(text)


def _shortened(event: str, fields: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return an event and its fields, shortened so that they fit into a line.

    If a text is too long, only its end is kept, since the end of a traceback is its most useful
    part.
    """
    texts = [event, *(value for value in fields.values() if isinstance(value, str))]
    # A character takes up to twelve bytes, since JSON escapes some characters as surrogate pairs.
    room = (LINE_BYTES - 1024) // (12 * len(texts))
    short = {
        name: value[-room:] if isinstance(value, str) and len(value) > room else value
        for name, value in fields.items()
        if isinstance(value, str | int | float | bool | None)
    }
    return event[-room:], short


class LogLineHandler(logging.Handler):
    """Writes records of the standard library's `logging` as log lines.

    Args:
        writer: formats and writes the lines.
    """

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        if record.name != KEEPER_LOGGER:
            fields["logger"] = record.name
        if record.exc_info and record.exc_info[0]:
            fields["exception"] = "".join(traceback.format_exception(*record.exc_info))
        at_us = now_us()
        level = _LEVELS.get(record.levelno, "error")
        line = self._writer.format_line(at_us, level, record.getMessage(), fields)
        self._writer.write(at_us, [line])
