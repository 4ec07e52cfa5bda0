"""Types of what a client sends and receives. The names and units are those of the HTTP API."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal, TypedDict

from scriptservice.model import Status

_TIMES = ("created_at", "started_at", "exited_at", "finished_at")


class Concurrency(TypedDict, total=False):
    """A concurrency key, which limits how many commands run at a time.

    Attributes:
        key: the key, at most 200 characters; all commands with this key count together.
        limit: how many of them may be dispatched, running or stopping at a time; 1 by default.
        when_busy: what to do if there are that many: ``queue`` to wait, which is the default;
            ``reject`` to be refused; ``replace`` to stop others of the key and then start.
    """

    key: str
    limit: int
    when_busy: Literal["queue", "reject", "replace"]


class LimitFields(TypedDict, total=False):
    """What a script may use. A limit that is left out is the service's own.

    Attributes:
        cpu_seconds: CPU time of each process; the kernel counts whole seconds.
        open_files: number of file descriptors of each process, at least 64.
        nice: how much the priority of the script's processes is lowered, 0 to 19.
        memory_bytes: memory of all processes together, at least 4 MiB.
        processes: number of processes and threads of the whole process tree.
    """

    cpu_seconds: float | None
    open_files: int | None
    nice: int | None
    memory_bytes: int | None
    processes: int | None


class PtySize(TypedDict):
    """Size of a terminal.

    Attributes:
        rows: number of lines, from 1 to 65535.
        cols: number of characters in a line, from 1 to 65535.
    """

    rows: int
    cols: int


class SubmitFields(TypedDict, total=False):
    """The fields of a submission besides the script. A field that is left out has its default.

    Attributes:
        name: a display name, at most 200 characters.
        labels: keys and values by which the command can be found.
        interpreter: program and its leading arguments; None to use the script's ``#!`` line, or
            bash if the script has no such line.
        args: the arguments of the script, beginning with ``$1``.
        env: variables that are added to the environment of the script.
        working_directory: a path, or ``"private"`` for an empty directory that is removed when the
            command ends. None for ``work/`` in the data directory, which all commands share.
        stdin: text for the script's standard input; None for /dev/null. If the command is
            interactive, the script reads this text first.
        interactive: whether input may be sent to the script while it runs.
        pty: size of the terminal in which the script runs; None for no terminal. A command with a
            terminal is interactive.
        timeout_seconds: time from the command's start until the service stops it; None for no
            limit.
        queue_timeout_seconds: time from the submission until the service ends a command that has
            not started; None for no limit.
        grace_seconds: time from the first signal of a stop to SIGKILL, 0 to 3600.
        leftover_seconds: how long background processes may run after the script has ended, 0 to
            3600.
        output_limit_bytes: limit for stdout and stderr together; None for no limit. Without this
            field, the limit is the service's setting, which is 10 GiB by default.
        on_output_limit: what to do with output beyond the limit: ``discard`` to count and discard
            it, ``stop`` to stop the command.
        limits: what the script may use; None for no limits.
        priority: from -100 to 100; queued commands with a higher priority start first.
        concurrency: the concurrency key; None for none.
        host: name of the host that must run the command; None for any host.
    """

    name: str | None
    labels: dict[str, str]
    interpreter: list[str] | None
    args: list[str]
    env: dict[str, str]
    working_directory: str | None
    stdin: str | None
    interactive: bool
    pty: PtySize | None
    timeout_seconds: float | None
    queue_timeout_seconds: float | None
    grace_seconds: float
    leftover_seconds: float
    output_limit_bytes: int | None
    on_output_limit: Literal["discard", "stop"]
    limits: LimitFields | None
    priority: int
    concurrency: Concurrency | None
    host: str | None


class ListFilters(TypedDict, total=False):
    """Which commands to list; a command must match all filters that are given.

    Attributes:
        status: the command has one of these statuses.
        labels: the command has all of these keys and values.
        text: part of the name or of the script. The case of ASCII letters is ignored.
        host: name of the host where the command ran, runs or must run.
        created_after: the command was submitted after this time, in the form of RFC 3339, such as
            ``2026-11-23T16:20:00Z``.
        created_before: the command was submitted before this time, in the same form.
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
    """One run of one script, as an answer of the service describes it.

    Fields that are not listed here have the same meaning as in `SubmitFields`.

    Attributes:
        id: UUID of the command.
        status: status of the command at the time of the answer.
        script: text of the script; None in lists and events.
        script_preview: the first 200 characters of the script, in lists only.
        args: arguments of the script; None in lists. ``env`` is None in lists, too.
        stdin_bytes: size of the text for standard input.
        waiting_for: what a queued command waits for: ``capacity``, ``concurrency`` or ``host``;
            None if it does not wait.
        host: name of the host where the command ran, runs or must run.
        created_by: name of the token that submitted the command.
        rerun_of: id of the command that this command repeats, or None.
        created_at: when the command was stored. All times are in UTC.
        started_at: when the script's process was started; None if it was not started.
        exited_at: when the script's own process ended; None before its end.
        finished_at: when the output was complete and all processes of the command had ended; None
            before that time.
        exit_code: exit code of the script's own process; None while the process runs, or if a
            signal ended the process.
        signal: name of the signal that ended the script's own process, such as ``SIGKILL``; None if
            no signal ended it.
        reason: one sentence that explains how the command ended; None if the status says enough.
        leftovers_killed: number of background processes that had to be killed.
        output: sizes of the output in bytes; the keys are ``bytes``, ``stdout_bytes``,
            ``stderr_bytes`` and ``discarded_bytes``.
        usage: ``user_seconds``, ``system_seconds`` and ``max_rss_bytes`` of the script's processes;
            each is None until the script exits.
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
    interactive: bool = False
    pty: PtySize | None = None
    timeout_seconds: float | None = None
    queue_timeout_seconds: float | None = None
    grace_seconds: float
    leftover_seconds: float
    output_limit_bytes: int | None = None
    on_output_limit: str
    limits: dict[str, float] | None = None
    priority: int
    concurrency: Concurrency | None = None
    waiting_for: str | None = None
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
            answer: the JSON object. Members that this client does not know are only in ``raw``.

        Raises:
            KeyError, TypeError, ValueError: the object does not describe a command.
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
    """A command that was followed to its end, with all its output.

    Attributes:
        command: the command in its final status.
        stdout: all bytes of stdout that the service stored.
        stderr: all bytes of stderr that the service stored.
    """

    command: Command
    stdout: bytes
    stderr: bytes

    @property
    def exit_code(self) -> int | None:
        """The script's exit code; None if a signal ended the script or the script never ran."""
        return self.command.exit_code


@dataclass(frozen=True, slots=True)
class InputReceipt:
    """What the service has accepted of a command's input.

    Attributes:
        accepted_bytes: number of bytes that this request has added.
        offset: number of bytes that were accepted since the command started. It is the ``offset``
            of the next `send_input`.
    """

    accepted_bytes: int
    offset: int


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that runs commands.

    Attributes:
        name: name of the host.
        status: ``up``, ``silent`` or ``draining``.
        running: number of commands that run on the host.
        capacity: number of commands that may run on the host at a time; None for no limit.
        raw: the whole answer as the service sent it.
    """

    name: str
    status: str
    running: int
    capacity: int | None
    raw: dict[str, Any]
