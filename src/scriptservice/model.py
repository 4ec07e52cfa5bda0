"""The domain model that every other package uses: commands, statuses and their transitions.

The module is pure: it does no I/O, reads no clock and knows nothing of the database or HTTP.
"""

import re
import signal
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

DEFAULT_INTERPRETER = ("/bin/bash",)
DEFAULT_OUTPUT_LIMIT_BYTES = 10 << 30
MAX_SCRIPT_BYTES = 1 << 20
SCRIPT_PREVIEW_CHARACTERS = 200

_SHEBANG_BYTES = 255
_BLANKS = re.compile(rb"[ \t]+")


class Status(StrEnum):
    """The status of a command; the last five are final."""

    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    TIMED_OUT = "timed_out"
    LOST = "lost"

    @property
    def final(self) -> bool:
        """Whether the status never changes again."""
        return self in FINAL


FINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.STOPPED, Status.TIMED_OUT, Status.LOST})
OPEN = frozenset({Status.QUEUED, Status.RUNNING, Status.STOPPING})

TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset(
        {Status.RUNNING, Status.STOPPED, Status.FAILED, Status.TIMED_OUT, Status.LOST}
    ),
    Status.RUNNING: frozenset({Status.SUCCEEDED, Status.FAILED, Status.STOPPING, Status.LOST}),
    Status.STOPPING: frozenset({Status.STOPPED, Status.TIMED_OUT, Status.FAILED, Status.LOST}),
} | {status: frozenset() for status in FINAL}


def may_become(current: Status, wanted: Status) -> bool:
    """Return whether a command may change from one status to another in one step."""
    return wanted in TRANSITIONS[current]


def predecessors(wanted: Status) -> frozenset[Status]:
    """Return the statuses from which a command may change to a status in one step."""
    return frozenset(status for status in Status if wanted in TRANSITIONS[status])


class Stream(StrEnum):
    """An output stream of a command.

    ``MERGED`` is the output of stdout and stderr, in the order in which the keeper read them.
    """

    STDOUT = "stdout"
    STDERR = "stderr"
    MERGED = "merged"


TRACEPARENT_CHARACTERS = 255
MAX_TERMINAL_CELLS = 65535
"""The largest number of rows and of columns; Linux stores each in 16 bits."""


class OnOutputLimit(StrEnum):
    """What happens to output beyond ``output_limit_bytes``."""

    DISCARD = "discard"
    STOP = "stop"


class WhenBusy(StrEnum):
    """What happens to a new command if its concurrency key is busy."""

    QUEUE = "queue"
    """The command waits."""
    REJECT = "reject"
    """The command is refused."""
    REPLACE = "replace"
    """Other commands of the key are stopped, and the command waits until they have ended."""


@dataclass(frozen=True, slots=True)
class Concurrency:
    """A concurrency key, which limits how many commands run at a time.

    A command counts from its dispatch mark until its status is final.

    Attributes:
        key: the key; all commands with the same key count together.
        limit: how many commands of the key may count at a time. If the commands of a key have
            different limits, the smallest limit of those that count applies.
        when_busy: what happens if that number is reached when the command is submitted.
    """

    key: str
    limit: int = 1
    when_busy: WhenBusy = WhenBusy.QUEUE


class WaitingFor(StrEnum):
    """What a queued command waits for."""

    CAPACITY = "capacity"
    """The host runs as many commands as it may, or cannot start one now."""
    CONCURRENCY = "concurrency"
    """As many commands of the concurrency key run as may run."""
    HOST = "host"
    """The service does not know the host that must run the command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a command may use; None for no limit of its own.

    Attributes:
        cpu_seconds: CPU time of each process.
        open_files: number of file descriptors of each process.
        nice: how much the priority of the script's processes is lowered, 0 to 19.
        memory_bytes: memory of all processes together.
        processes: number of processes and threads of the whole process tree.
    """

    cpu_seconds: float | None = None
    open_files: int | None = None
    nice: int | None = None
    memory_bytes: int | None = None
    processes: int | None = None

    def fields(self) -> dict[str, float]:
        """Return the limits that are set, by name."""
        values = {name: getattr(self, name) for name in Limits.__dataclass_fields__}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class TerminalSize:
    """The size of a terminal.

    Attributes:
        rows: number of lines, from 1 to `MAX_TERMINAL_CELLS`.
        cols: number of characters in a line, from 1 to `MAX_TERMINAL_CELLS`.
    """

    rows: int
    cols: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a user submits.

    The default values are the same as in the API, except for ``output_limit_bytes``. Its default in
    the API is a setting.

    Attributes:
        script: text that the interpreter runs.
        interpreter: program and its leading arguments.
        name: a name that people can read, or None.
        labels: keys and values by which lists can be filtered.
        args: ``$1`` and the following arguments.
        env: variables that are added to the clean environment.
        working_directory: a path, ``private``, or None for the shared directory.
        stdin: text for standard input; None for /dev/null. If the command is interactive, the
            script reads this text first, and then what is sent to it.
        interactive: whether input may be sent to the script while it runs.
        pty: size of the terminal that the script gets as stdin, stdout and stderr; None for no
            terminal. A command with a terminal is interactive.
        timeout_seconds: time from the start until the command is stopped; None for no limit.
        queue_timeout_seconds: time from submission until a queued command is given up; None for
            no limit.
        grace_seconds: time between the signal of a stop and SIGKILL.
        leftover_seconds: time that background processes get after the script has ended.
        output_limit_bytes: limit for both streams together; None for no limit.
        on_output_limit: what happens to output beyond the limit.
        limits: what the script may use; None for no limits.
        priority: from -100 to 100; a higher priority starts first.
        concurrency: the concurrency key; None if the command has none.
        host: name of the host that must run the command; None for any host.
    """

    script: str
    interpreter: tuple[str, ...] = DEFAULT_INTERPRETER
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    working_directory: str | None = None
    stdin: str | None = None
    interactive: bool = False
    pty: TerminalSize | None = None
    timeout_seconds: float | None = None
    queue_timeout_seconds: float | None = None
    grace_seconds: float = 10
    leftover_seconds: float = 2
    output_limit_bytes: int | None = None
    on_output_limit: OnOutputLimit = OnOutputLimit.DISCARD
    limits: Limits | None = None
    priority: int = 0
    concurrency: Concurrency | None = None
    host: str | None = None


class Outcome(NamedTuple):
    """What is known about a command's run so far; an unknown value is None.

    All values come from the keeper's journal.

    Attributes:
        started_at: when the script started, in microseconds since 1970 UTC.
        exited_at: when the script's own process ended, in microseconds since 1970 UTC.
        finished_at: when all processes of the script had ended and the script's output was
            complete, in microseconds since 1970 UTC.
        exit_code: exit code of the script's own process, from the keeper's wait status; None if a
            signal ended the process.
        signal: name of the signal that ended the script's own process.
        reason: one plain sentence that explains the status.
        leftovers_killed: number of background processes that had to be ended.
        stdout_bytes: size of the stored output of stdout.
        stderr_bytes: size of the stored output of stderr.
        discarded_bytes: size of the output beyond the limit; this output was not stored.
        user_seconds: CPU time in user mode of the script and of the children it waited for.
        system_seconds: CPU time of the same processes in the kernel.
        max_rss_bytes: the largest resident set size that one of these processes had.
    """

    started_at: int | None = None
    exited_at: int | None = None
    finished_at: int | None = None
    exit_code: int | None = None
    signal: str | None = None
    reason: str | None = None
    leftovers_killed: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    discarded_bytes: int = 0
    user_seconds: float | None = None
    system_seconds: float | None = None
    max_rss_bytes: int | None = None


UNKNOWN_OUTCOME = Outcome()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One run of one script, as the database stores it.

    Attributes:
        number: internal number, in order of submission.
        id: public id.
        submission: what was submitted. In lists, ``script`` is only the preview, ``stdin`` is
            None, and ``args`` and ``env`` are empty.
        status: current status.
        host: host where the command ran, runs or must run.
        created_by: name of the token with which the command was submitted.
        rerun_of: id of the command that this command repeats, or None.
        created_at: time of submission, in microseconds since 1970 UTC.
        stdin_bytes: size of the text for standard input.
        traceparent: trace context that the client gave, or None; always None in lists.
        waiting_for: what the command waits for; None if it has a dispatch mark or is not queued.
        outcome: what is known about the command's run.
    """

    number: int
    id: UUID
    submission: Submission
    status: Status
    host: str | None
    created_by: str
    rerun_of: UUID | None
    created_at: int
    stdin_bytes: int
    traceparent: str | None = None
    waiting_for: WaitingFor | None = None
    outcome: Outcome = UNKNOWN_OUTCOME

    @property
    def output_bytes(self) -> int:
        """Size of the stored output of both streams."""
        return self.outcome.stdout_bytes + self.outcome.stderr_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """The conditions for commands in a list; a command must meet all given conditions.

    Attributes:
        statuses: the command has one of these statuses; empty for any status.
        labels: the command has all of these keys and values.
        text: a substring of the name or the script; ASCII upper and lower case are the same.
        host: host where the command ran, runs or must run.
        created_after: the command was submitted after this time, in microseconds since 1970 UTC.
        created_before: the command was submitted before this time, in microseconds since 1970 UTC.
        id_part: beginning or end of the id's text, in lower case, at least 8 characters.
    """

    statuses: tuple[Status, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    text: str | None = None
    host: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    id_part: str | None = None


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """An ``Idempotency-Key``: a name for a request, so that the request can be sent again safely.

    Attributes:
        token: name of the request's token. Requests with the same key but another token are
            independent.
        key: the key that the client chose.
        fingerprint: SHA-256 of the request's content.
    """

    token: str
    key: str
    fingerprint: bytes


_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


def parse_traceparent(text: str) -> str | None:
    """Return a ``traceparent`` of W3C Trace Context, or None if the text is not a valid one.

    A later version than 00 may have more fields after the four known fields. The result keeps these
    additional fields.
    """
    known = _TRACEPARENT.match(text)
    if known is None or len(text) > TRACEPARENT_CHARACTERS or not text.isascii():
        return None
    rest = text[known.end() :]
    if rest and (text.startswith("00") or not rest.startswith("-") or not rest.isprintable()):
        return None
    return text


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a submission comes from.

    Attributes:
        created_by: name of the token of the request.
        request: idempotency key of the request, or None.
        traceparent: trace context that the client gave, or None.
    """

    created_by: str
    request: IdempotencyKey | None = None
    traceparent: str | None = None


def script_interpreter(script: str) -> tuple[str, ...]:
    """Return the interpreter that a script's first line names, parsed as Linux parses it.

    Everything after the program is one argument: ``#!/usr/bin/env -S python3 -u`` gives
    ``("/usr/bin/env", "-S python3 -u")``. The interpreter is bash if the script has no ``#!``, or
    has nothing after the ``#!``.
    """
    if not script.startswith("#!"):
        return DEFAULT_INTERPRETER
    line = script.encode()[: _SHEBANG_BYTES + 1].partition(b"\n")[0]
    path = line[2:].lstrip(b" \t")
    if len(line) > _SHEBANG_BYTES and not _BLANKS.search(path):
        return DEFAULT_INTERPRETER  # Linux refuses a path that may have been cut off
    words = _BLANKS.split(line[2:_SHEBANG_BYTES].strip(b" \t"), maxsplit=1)
    return tuple(word.decode(errors="replace") for word in words if word) or DEFAULT_INTERPRETER


def signal_name(number: int) -> str:
    """Return a signal's name, such as ``SIGKILL`` or, for a real-time signal, ``SIGRTMIN+1``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN{number - signal.SIGRTMIN:+d}"


def signal_number(name: str) -> int:
    """Return a signal's number from the name that `signal_name` returns.

    Raises:
        ValueError: this system has no such signal.
    """
    return [signal_name(number) for number in range(signal.NSIG)].index(name)


def parse_signal(name: str) -> str | None:
    """Return a signal's full name, such as ``SIGINT`` for ``INT``; None for an unknown signal."""
    full = name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"
    return full if full in signal.Signals.__members__ else None
