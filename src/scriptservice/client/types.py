"""What the service answers, typed: names, units and meanings are those of the contract."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from scriptservice.model import Status

_TIMES = ("created_at", "started_at", "exited_at", "finished_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One run of one script, as the service saw it when it answered.

    Attributes:
        id: its UUID.
        status: how far it is.
        script: its text; None in lists and events.
        script_preview: the first 200 characters, in lists only.
        args: of the script; None in lists, as is ``env``.
        created_at: UTC, as all times; None where a thing has not happened.
        exit_code: of the script's own process; excludes ``signal``.
        output: ``bytes``, ``stdout_bytes``, ``stderr_bytes``, ``discarded_bytes``.
        usage: ``user_seconds``, ``system_seconds``, ``max_rss_bytes``; None until it exits.
        raw: everything the service said, as it said it.
    """

    id: str
    status: Status
    name: str | None = None
    labels: dict[str, str]
    script: str | None = None
    script_preview: str | None = None
    interpreter: list[str]
    args: list[str] | None = None
    env: dict[str, str] | None = None
    working_directory: str | None = None
    stdin_bytes: int = 0
    timeout_seconds: float | None = None
    queue_timeout_seconds: float | None = None
    grace_seconds: float
    leftover_seconds: float
    output_limit_bytes: int | None = None
    on_output_limit: str
    priority: int
    host: str | None = None
    created_by: str
    rerun_of: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    exited_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    signal: str | None = None
    reason: str | None = None
    leftovers_killed: int = 0
    output: dict[str, int]
    usage: dict[str, float | None]
    raw: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether its status is final."""
        return self.status.final

    @classmethod
    def from_json(cls, answer: dict[str, Any]) -> "Command":
        """Return the command that an answer describes; what a newer service adds is in ``raw``."""
        known = {field.name for field in fields(cls)} - {"raw"}
        values = {name: value for name, value in answer.items() if name in known}
        for name in _TIMES:
            if values.get(name) is not None:
                values[name] = datetime.fromisoformat(values[name])
        values["status"] = Status(values["status"])
        return cls(raw=answer, **values)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a script that was run to its end.

    Attributes:
        command: in its final status.
        stdout: all bytes it wrote there.
        stderr: all bytes it wrote there.
    """

    command: Command
    stdout: bytes
    stderr: bytes

    @property
    def exit_code(self) -> int | None:
        """The script's exit code, None where it has none (a signal, or it never ran)."""
        return self.command.exit_code


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that runs commands.

    Attributes:
        name: its name.
        status: up, silent or draining.
        running: how many commands run there.
        capacity: how many may, None for no limit.
        raw: everything the service said.
    """

    name: str
    status: str
    running: int
    capacity: int | None
    raw: dict[str, Any]
