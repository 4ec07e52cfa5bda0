"""What goes to the service and what comes back, typed: names and units are the contract's."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal, TypedDict

from scriptservice.model import Status

_TIMES = ("created_at", "started_at", "exited_at", "finished_at")


class SubmitFields(TypedDict, total=False):
    """The fields of a submit besides the script; the service's default holds for each left out.

    Attributes:
        name: a name for people, at most 200 characters.
        labels: keys and values to find the command again.
        interpreter: program and leading arguments, in place of the script's ``#!`` line.
        args: the script's arguments, ``$1`` and on.
        env: variables that are added to the script's environment.
        working_directory: a path, or ``"private"`` for an empty directory that is removed at the
            end. None is ``work/`` in the data directory, which all commands share.
        stdin: text for the script's standard input; None for /dev/null.
        timeout_seconds: the command is stopped that long after its start; None for no limit.
        queue_timeout_seconds: the command is given up if it has not started by then; None for no
            limit.
        grace_seconds: from a stop's signal to SIGKILL, 0 to 3600.
        leftover_seconds: how long background processes may outlive the script, 0 to 3600.
        output_limit_bytes: of stdout and stderr together; None for no limit.
        on_output_limit: beyond the limit, discard output (and count it) or stop the command.
        priority: -100 to 100. Queued commands with a higher one start first.
        host: the host that has to run it; None for any.
    """

    name: str | None
    labels: dict[str, str]
    interpreter: list[str] | None
    args: list[str]
    env: dict[str, str]
    working_directory: str | None
    stdin: str | None
    timeout_seconds: float | None
    queue_timeout_seconds: float | None
    grace_seconds: float
    leftover_seconds: float
    output_limit_bytes: int | None
    on_output_limit: Literal["discard", "stop"]
    priority: int
    host: str | None


class ListFilters(TypedDict, total=False):
    """Which commands to list; all filters that are given must match.

    Attributes:
        status: any of these statuses.
        labels: all of these keys and values.
        text: part of the name or the script, in upper or lower case.
        host: where the command ran, runs or must run.
        created_after: RFC 3339, such as ``2026-11-23T16:20:00Z``.
        created_before: the same.
        id_part: the beginning or the end of the id, at least 8 characters.
        page_size: how many commands to ask for in one request, 1 to 1000.
    """

    status: list[str] | None
    labels: dict[str, str] | None
    text: str | None
    host: str | None
    created_after: str | None
    created_before: str | None
    id_part: str | None
    page_size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One run of one script, as the service described it in an answer.

    Fields that are not listed here have the meaning of `SubmitFields`.

    Attributes:
        id: its UUID.
        status: how far it is.
        script: its text; None in lists and events.
        script_preview: the first 200 characters of the script, in lists only.
        args: None in lists, as is ``env``.
        stdin_bytes: size of the text for its standard input.
        host: where it ran, runs or must run.
        created_by: name of the token that submitted it.
        rerun_of: the id of the command that it repeats.
        created_at: when it was stored, in UTC as all times.
        started_at: when its process was there; None where it has not started.
        exited_at: when the script's own process ended.
        finished_at: when its output was complete and its process tree gone.
        exit_code: of the script's own process; None while it runs, or where a signal ended it.
        signal: name of the signal that ended the script's own process, such as ``SIGKILL``.
        reason: one sentence on why it ended as it did, where the status alone does not say.
        leftovers_killed: how many background processes had to be killed.
        output: ``bytes``, ``stdout_bytes``, ``stderr_bytes``, ``discarded_bytes``.
        usage: ``user_seconds``, ``system_seconds``, ``max_rss_bytes``; None until it exits.
        raw: the whole answer as the service sent it.
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
        """Whether the status is final."""
        return self.status.final

    @classmethod
    def from_json(cls, answer: dict[str, Any]) -> "Command":
        """Return the command that an answer describes.

        Args:
            answer: the JSON object. Members that a newer service adds are only in ``raw``.

        Raises:
            KeyError, TypeError, ValueError: it does not describe a command.
        """
        known = {field.name for field in fields(cls)} - {"raw"}
        values = {name: value for name, value in answer.items() if name in known}
        for name in _TIMES:
            if values.get(name) is not None:
                values[name] = datetime.fromisoformat(values[name])
        values["status"] = Status(values["status"])
        return cls(raw=answer, **values)


@dataclass(frozen=True, slots=True)
class Result:
    """A command that was followed to its end, with all of its output.

    Attributes:
        command: in its final status.
        stdout: all bytes that it wrote there.
        stderr: all bytes that it wrote there.
    """

    command: Command
    stdout: bytes
    stderr: bytes

    @property
    def exit_code(self) -> int | None:
        """The script's exit code; None where a signal ended it or it never ran."""
        return self.command.exit_code


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that runs commands.

    Attributes:
        name: its name.
        status: up, silent or draining.
        running: how many commands run there.
        capacity: how many commands may run there at once; None for no limit.
        raw: the whole answer as the service sent it.
    """

    name: str
    status: str
    running: int
    capacity: int | None
    raw: dict[str, Any]
