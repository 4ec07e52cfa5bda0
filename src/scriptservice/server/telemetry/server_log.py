"""The server's log, in the same format as the keeper's.

`start_logging` sends the events of structlog and of the standard library to the log. `CommandLog`
writes a line for each change of a command; ``composition`` passes its methods as callbacks. No line
contains text from a submission, from a script or from a script's output.
"""

import asyncio
import logging
from collections.abc import MutableMapping
from typing import Any
from uuid import UUID

import structlog

from scriptservice.fleet.notifications import StatusChange, StoredChanges
from scriptservice.model import Command, Status
from scriptservice.protocol.clock import now_us
from scriptservice.protocol.log_lines import LogLineHandler, LogWriter

_LEVELS = {status: "warning" if status is Status.LOST else "info" for status in Status}


def start_logging(lines: LogWriter, level: str) -> None:
    """Send the events of structlog and of the standard library to stderr.

    Args:
        lines: formats and writes the lines.
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
        logger_factory=lambda *_: _LineLogger(lines),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[LogLineHandler(lines)])
    logging.captureWarnings(capture=True)
    # The server sometimes ends a stream early on purpose. Uvicorn logs an error each time, so drop
    # this message.
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: "without completing response" not in record.getMessage()
    )


class _Renderer:
    """The last of structlog's processors, which formats an event as a line."""

    def __init__(self, lines: LogWriter) -> None:
        self._lines = lines

    def __call__(self, _: object, __: str, event: MutableMapping[str, Any]) -> bytes:
        return self._lines.format_line(now_us(), event.pop("level"), event.pop("event"), event)


class _LineLogger:
    """The logger to which structlog passes the formatted line."""

    def __init__(self, lines: LogWriter) -> None:
        self._lines = lines

    def msg(self, line: bytes) -> None:
        self._lines.write(now_us(), [line])

    debug = info = warning = error = critical = exception = msg


class CommandLog:
    """Logs one line for each change of a command, after the change is stored.

    The lines of one turn of the event loop are written together. If the server is killed, the
    lines for the last changes may be missing. No line is written twice.

    Args:
        lines: formats and writes the lines.
        level: debug, info, warning or error.
    """

    def __init__(self, lines: LogWriter, level: str) -> None:
        self._lines = lines
        order = ("debug", "info", "warning", "error")
        self._levels = frozenset(order[order.index(level) :])
        self._pending: list[bytes] = []

    def stored(self, command: Command) -> None:
        """Log that a command was submitted."""
        self._log("info", "command_queued", command.id, {})

    def recorded(self, recorded: StoredChanges) -> None:
        """Log the changes in a part of the journal that was just stored."""
        for step in recorded.status_changes:
            self.status_changed(step)
        for command_id in recorded.given_back - {
            step.command_id for step in recorded.status_changes
        }:
            self._log("info", "command_given_back", command_id, {})

    def status_changed(self, step: StatusChange) -> None:
        """Log a change of a command's status."""
        status = step.status
        fields = _end_fields(step) if status.final else {}
        self._log(_LEVELS[status], f"command_{status}", step.command_id, fields)

    def deleted(self, command_id: UUID) -> None:
        """Log that a command was deleted."""
        self._log("info", "command_deleted", command_id, {})

    def _log(self, level: str, event: str, command_id: UUID, fields: dict[str, Any]) -> None:
        if level not in self._levels:
            return
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._flush)
        fields = {"command_id": str(command_id), **fields}
        self._pending.append(self._lines.format_line(now_us(), level, event, fields))

    def _flush(self) -> None:
        lines, self._pending = self._pending, []
        self._lines.write(now_us(), lines)


def _end_fields(step: StatusChange) -> dict[str, Any]:
    """Return the log fields that tell how a command ended, without text from its submission."""
    outcome = step.outcome
    reason, seconds = outcome.reason, None
    if outcome.started_at is not None and outcome.finished_at is not None:
        seconds = max(0, outcome.finished_at - outcome.started_at) / 1e6
    elif step.status is Status.FAILED:
        # The stored reason may contain the name of the interpreter or of the directory. The log
        # must not show these names, because they come from the submission.
        reason = "it could not be started"
    return {
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "reason": reason,
        "run_seconds": seconds,
    }
