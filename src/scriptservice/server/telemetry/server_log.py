"""The server's log: structlog's events and the standard library's, in the keeper's lines.

And what becomes of commands, one line for each change: `CommandLog`, which the composition root
connects to those who know. No line has anything that a submitter wrote, or a script.
"""

import asyncio
import logging
from collections.abc import MutableMapping
from typing import Any
from uuid import UUID

import structlog

from scriptservice.fleet.notifications import Recorded, Step
from scriptservice.model import Command, Status
from scriptservice.protocol.clock import now_us
from scriptservice.protocol.log_lines import LineHandler, Lines

_LEVELS = {status: "warning" if status is Status.LOST else "info" for status in Status}


def start_logging(lines: Lines, level: str) -> None:
    """Send what structlog and the standard library are told to stderr.

    Args:
        lines: makes and writes them.
        level: debug, info, warning or error.
    """
    number: int = getattr(logging, level.upper())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _Renderer(lines),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Output(lines),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[LineHandler(lines)])
    logging.captureWarnings(capture=True)
    # An output stream that is cut on purpose is no error of the application.
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: "without completing response" not in record.getMessage()
    )


class _Renderer:
    """The last of structlog's processors: a line."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def __call__(self, _: object, __: str, event: MutableMapping[str, Any]) -> bytes:
        return self._lines.line(now_us(), event.pop("level"), event.pop("event"), event)


class _Output:
    """What structlog calls a logger: takes lines."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def msg(self, line: bytes) -> None:
        self._lines.write(now_us(), [line])

    debug = info = warning = error = critical = exception = msg


class CommandLog:
    """One line for each change of a command, once it is stored; those of one turn in one write.

    A server that is killed may leave out what it stored last. Nothing is said twice.

    Args:
        lines: makes and writes them.
        level: debug, info, warning or error.
    """

    def __init__(self, lines: Lines, level: str) -> None:
        self._lines = lines
        order = ("debug", "info", "warning", "error")
        self._said = frozenset(order[order.index(level) :])
        self._waiting: list[bytes] = []

    def stored(self, command: Command) -> None:
        """A command was submitted."""
        self._say("info", "command_queued", command.id, {})

    def recorded(self, news: Recorded) -> None:
        """A part of the journal was stored."""
        for step in news.steps:
            self.stepped(step)
        for command in news.given_back - {step.command for step in news.steps}:
            self._say("info", "command_given_back", command, {})

    def stepped(self, step: Step) -> None:
        """A command's status changed."""
        status = step.status
        fields = _ending(step) if status.final else {}
        self._say(_LEVELS[status], f"command_{status}", step.command, fields)

    def deleted(self, command: UUID) -> None:
        """A command was deleted."""
        self._say("info", "command_deleted", command, {})

    def _say(self, level: str, event: str, command: UUID, fields: dict[str, Any]) -> None:
        if level not in self._said:
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        fields = {"command_id": str(command), **fields}
        self._waiting.append(self._lines.line(now_us(), level, event, fields))

    def _flush(self) -> None:
        lines, self._waiting = self._waiting, []
        self._lines.write(now_us(), lines)


def _ending(step: Step) -> dict[str, Any]:
    """Return how a command ended, as far as that quotes nothing of what was submitted."""
    outcome = step.outcome
    reason, seconds = outcome.reason, None
    if outcome.started_at is not None and outcome.finished_at is not None:
        seconds = max(0, outcome.finished_at - outcome.started_at) / 1e6
    elif step.status is Status.FAILED:
        reason = "it could not be started"  # why names its interpreter or its directory
    return {
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "reason": reason,
        "run_seconds": seconds,
    }
