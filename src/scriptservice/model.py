"""The words everything else uses: a command, its status, and which status may follow which.

Pure: no input or output, no clock, nothing of the database or of HTTP.
"""

import re
import signal
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

DEFAULT_INTERPRETER = ("/bin/bash",)
SCRIPT_PREVIEW_CHARACTERS = 200

_SHEBANG_BYTES = 255
_BLANKS = re.compile(rb"[ \t]+")


class Status(StrEnum):
    """How far a command is; the last five are final."""

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
        """Whether it never changes again."""
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
    """Whether a command of one status may get another next."""
    return wanted in TRANSITIONS[current]


def sources(wanted: Status) -> frozenset[Status]:
    """Return the statuses from which a command may get this one next."""
    return frozenset(status for status in Status if wanted in TRANSITIONS[status])


class Stream(StrEnum):
    """Which of a command's output."""

    STDOUT = "stdout"
    STDERR = "stderr"
    MERGED = "merged"


TRACEPARENT_CHARACTERS = 255


class OnOutputLimit(StrEnum):
    """What happens beyond ``output_limit_bytes``."""

    DISCARD = "discard"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a user asks for; the defaults are those of the contract.

    Attributes:
        script: the text that the interpreter runs.
        interpreter: program and leading arguments.
        name: for people, None for none.
        labels: for finding it again.
        args: ``$1`` and on.
        env: added to the clean environment.
        working_directory: a path, ``private``, or None for the shared one.
        stdin: text for its standard input, None for /dev/null.
        timeout_seconds: from its start to a stop.
        queue_timeout_seconds: from submission to giving up while queued.
        grace_seconds: between a stop's signal and SIGKILL.
        leftover_seconds: what background children get after the script's end.
        output_limit_bytes: of both streams together.
        on_output_limit: what happens beyond it.
        priority: -100 to 100, higher starts first.
        host: where it must run, None for anywhere.
    """

    script: str
    interpreter: tuple[str, ...] = DEFAULT_INTERPRETER
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    working_directory: str | None = None
    stdin: str | None = None
    timeout_seconds: float | None = None
    queue_timeout_seconds: float | None = None
    grace_seconds: float = 10
    leftover_seconds: float = 2
    output_limit_bytes: int | None = None
    on_output_limit: OnOutputLimit = OnOutputLimit.DISCARD
    priority: int = 0
    host: str | None = None


class Outcome(NamedTuple):
    """What is known of a command's run so far; unknown is None.

    Attributes:
        started_at: microseconds since 1970 UTC, from the keeper.
        exited_at: when the script's own process ended, likewise.
        finished_at: when its tree was gone and its output complete, likewise.
        exit_code: from the keeper's wait status; excludes ``signal``.
        signal: name of the signal that ended the script's own process.
        reason: one plain sentence.
        leftovers_killed: background processes that had to be ended.
        stdout_bytes: stored output of that stream.
        stderr_bytes: stored output of that stream.
        discarded_bytes: output beyond the limit.
        user_seconds: CPU time of the script and of the children it waited for.
        system_seconds: likewise, in the kernel.
        max_rss_bytes: the largest resident size of any of them.
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


NOTHING_KNOWN = Outcome()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One run of one script, as it is stored.

    Attributes:
        number: order of submission, internal.
        id: its name for everyone else.
        submission: what was asked for; in lists ``script`` is the preview, ``stdin`` None,
            and ``args`` and ``env`` are empty.
        status: how far it is.
        host: where it ran, runs or must run.
        created_by: name of the token that submitted it.
        rerun_of: the command it repeats.
        created_at: microseconds since 1970 UTC.
        stdin_bytes: size of its standard input's text.
        traceparent: the trace it belongs to, as its submitter named it; in lists None.
        outcome: what is known of its run.
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
    outcome: Outcome = NOTHING_KNOWN

    @property
    def output_bytes(self) -> int:
        """Stored output of both streams."""
        return self.outcome.stdout_bytes + self.outcome.stderr_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which commands a list is to show; all that is given must hold.

    Attributes:
        statuses: any of these; empty for all.
        labels: keys and values, all of them.
        text: a substring of name or script, ASCII case ignored.
        host: where it ran, runs or must run.
        created_after: later than this, microseconds since 1970 UTC.
        created_before: earlier than this, likewise.
        id_part: what the text of its id begins or ends with, in lower case, from 8 characters on.
    """

    statuses: tuple[Status, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    text: str | None = None
    host: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    id_part: str | None = None


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What names a request, so that it can be sent twice and acts once.

    Attributes:
        token: name of the token it came with; keys of others are others.
        key: what the client chose.
        fingerprint: SHA-256 of what the request says.
    """

    token: str
    key: str
    fingerprint: bytes


_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


def parse_traceparent(text: str) -> str | None:
    """Return a ``traceparent`` of W3C Trace Context, None for what is none.

    Of a version later than the first, what follows the four known fields is kept with them.
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
        created_by: name of the token.
        request: what names the request, None if nothing does.
        traceparent: the trace it belongs to, None for none.
    """

    created_by: str
    request: RequestKey | None = None
    traceparent: str | None = None


def script_interpreter(script: str) -> tuple[str, ...]:
    """Return how a script says it is to be run, as Linux reads its first line.

    ``#!/usr/bin/env -S python3 -u`` gives the program and everything after it as one argument;
    without ``#!``, or with nothing behind it, it is bash.
    """
    if not script.startswith("#!"):
        return DEFAULT_INTERPRETER
    line = script.encode()[: _SHEBANG_BYTES + 1].partition(b"\n")[0]
    path = line[2:].lstrip(b" \t")
    if len(line) > _SHEBANG_BYTES and not _BLANKS.search(path):
        return DEFAULT_INTERPRETER  # it may be cut, which Linux does not take for a program
    words = _BLANKS.split(line[2:_SHEBANG_BYTES].strip(b" \t"), maxsplit=1)
    return tuple(word.decode(errors="replace") for word in words if word) or DEFAULT_INTERPRETER


def signal_name(number: int) -> str:
    """Return a signal's name, ``SIGKILL``; real-time signals have one by number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN{number - signal.SIGRTMIN:+d}"


def signal_number(name: str) -> int:
    """Return the number of the signal that has a name from `signal_name`.

    Raises:
        ValueError: none has it here.
    """
    return [signal_name(number) for number in range(signal.NSIG)].index(name)


def parse_signal(name: str) -> str | None:
    """Return the full name of a signal given with or without ``SIG``, None if there is none."""
    full = name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"
    return full if full in signal.Signals.__members__ else None
