"""Encodes commands as JSON, as ``docs/api.md`` shows them. No other module encodes a command."""

from datetime import datetime, timedelta
from typing import Any

import pydantic_core

from scriptservice.model import Command, Limits

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC; with a zone, isoformat would add +00:00


def time_text(microseconds: int | None) -> str | None:
    """Return a time as an RFC 3339 text in UTC with microseconds.

    Args:
        microseconds: the time in microseconds since 1970 UTC. If it is None, None is returned.
    """
    if microseconds is None:
        return None
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds") + "Z"


def command_view(command: Command, *, item: bool = False) -> dict[str, Any]:
    """Return a command as an object for JSON.

    Args:
        command: the command. If it is an item of a list, its ``script`` is only the preview.
        item: whether the command is an item of a list. Items have no args and no env.
    """
    asked, outcome = command.submission, command.outcome
    concurrency = asked.concurrency
    large = {} if item else {"args": list(asked.args), "env": asked.env}
    return {
        "id": str(command.id),
        "status": command.status.value,
        "name": asked.name,
        "labels": asked.labels,
        ("script_preview" if item else "script"): asked.script,
        "interpreter": list(asked.interpreter),
        **large,
        "working_directory": asked.working_directory,
        "stdin_bytes": command.stdin_bytes,
        "interactive": asked.interactive,
        "pty": None if asked.pty is None else {"rows": asked.pty.rows, "cols": asked.pty.cols},
        "timeout_seconds": _number(asked.timeout_seconds),
        "queue_timeout_seconds": _number(asked.queue_timeout_seconds),
        "grace_seconds": _number(asked.grace_seconds),
        "leftover_seconds": _number(asked.leftover_seconds),
        "output_limit_bytes": asked.output_limit_bytes,
        "on_output_limit": asked.on_output_limit.value,
        "limits": _limits(asked.limits),
        "priority": asked.priority,
        "concurrency": None
        if concurrency is None
        else {
            "key": concurrency.key,
            "limit": concurrency.limit,
            "when_busy": concurrency.when_busy.value,
        },
        "waiting_for": None if command.waiting_for is None else command.waiting_for.value,
        "host": command.host,
        "created_by": command.created_by,
        "rerun_of": None if command.rerun_of is None else str(command.rerun_of),
        "created_at": time_text(command.created_at),
        "started_at": time_text(outcome.started_at),
        "exited_at": time_text(outcome.exited_at),
        "finished_at": time_text(outcome.finished_at),
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "reason": outcome.reason,
        "leftovers_killed": outcome.leftovers_killed,
        "output": {
            "bytes": command.output_bytes,
            "stdout_bytes": outcome.stdout_bytes,
            "stderr_bytes": outcome.stderr_bytes,
            "discarded_bytes": outcome.discarded_bytes,
        },
        "usage": {
            "user_seconds": outcome.user_seconds,
            "system_seconds": outcome.system_seconds,
            "max_rss_bytes": outcome.max_rss_bytes,
        },
    }


def _limits(limits: Limits | None) -> dict[str, float | int | None] | None:
    if limits is None:
        return None
    return {name: _number(value) for name, value in limits.fields().items()}


def _number(seconds: float | None) -> float | int | None:
    """Return seconds, as an integer if they are whole: ``3600``, not ``3600.0``."""
    if seconds is None or not float(seconds).is_integer():
        return seconds
    return int(seconds)


def to_json(value: object) -> bytes:
    """Return a value as compact JSON in UTF-8."""
    return bytes(pydantic_core.to_json(value))
