"""Models of requests. They validate what clients send, and OpenAPI shows their schemas."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic import ValidationError as PydanticValidationError
from pydantic.config import JsonDict
from pydantic.json_schema import SkipJsonSchema

from scriptservice.errors import FieldError, ValidationError
from scriptservice.model import (
    MAX_SCRIPT_BYTES,
    MAX_TERMINAL_CELLS,
    Concurrency,
    Limits,
    OnOutputLimit,
    Status,
    Submission,
    TerminalSize,
    WhenBusy,
    parse_signal,
    script_interpreter,
)
from scriptservice.server.commands.maxima import SubmitDefaults
from scriptservice.server.routes.validation_messages import message_of

SCRIPT_BYTES = MAX_SCRIPT_BYTES
STDIN_BYTES = 1 << 20
INPUT_BYTES = 1 << 20
"""Largest size of one request's input for a running command."""
STRING_BYTES = 128 << 10
ARGUMENT_BYTES = 1 << 20
"""Largest size of all arguments and environment variables together, in UTF-8."""
LABELS = 64
CONCURRENCY_LIMIT = 10_000
"""Largest limit of a concurrency key."""
JSON_BODY_BYTES = 20 << 20
"""Largest size of a JSON body. The script may have 1 MiB, the standard input may have 1 MiB, and
the arguments and the environment together may have 1 MiB. JSON may write each byte of these 3 MiB
as an escape sequence of six bytes."""

OBJECT_PARAMETERS = frozenset({"limits"})
"""The fields of a submission that are JSON objects. As query parameters they are JSON too."""
PTY_PATTERN = "^[0-9]{1,5}x[0-9]{1,5}$"
"""The size of a terminal as a query parameter: rows and columns, such as ``24x80``."""

_LABEL_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = "SCRIPTSERVICE_"


def _without_nul(text: str) -> str:
    if "\0" in text:
        message = "must not contain a NUL character"
        raise ValueError(message)
    return text


def _at_most(limit: int) -> AfterValidator:
    def check(text: str) -> str:
        if len(text.encode()) > limit:
            message = f"must have at most {limit} bytes of UTF-8"
            raise ValueError(message)
        return text

    return AfterValidator(check)


Text = Annotated[str, AfterValidator(_without_nul)]
Word = Annotated[Text, _at_most(STRING_BYTES - 1)]
Label = Annotated[Text, Field(max_length=255)]


def _label_keys(labels: dict[str, str]) -> dict[str, str]:
    for key in labels:
        if not _LABEL_KEY.fullmatch(key):
            message = f"key {key[:80]!r} must match [A-Za-z0-9][A-Za-z0-9._/-]{{0,62}}"
            raise ValueError(message)
    return labels


def _environment(env: dict[str, str]) -> dict[str, str]:
    for name, value in env.items():
        if not _ENV_NAME.fullmatch(name):
            message = f"name {name[:80]!r} must match [A-Za-z_][A-Za-z0-9_]*"
            raise ValueError(message)
        if name.startswith(_RESERVED):
            message = f"name {name[:80]} is reserved: it begins with {_RESERVED}"
            raise ValueError(message)
        if len(name.encode()) + len(value.encode()) + 2 > STRING_BYTES:
            message = f"{name[:80]} must have less than {STRING_BYTES} bytes with its value"
            raise ValueError(message)
    return env


def _without_default(schema: JsonDict) -> None:
    """Remove the default from a field's schema, because an absent field does not mean null."""
    schema.pop("default")


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ShortSeconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]


class ConcurrencyBody(BaseModel):
    """A concurrency key: how many commands with this key may run at a time."""

    model_config = ConfigDict(extra="forbid", strict=True, title="SubmitConcurrency")

    key: Annotated[Text, Field(min_length=1, max_length=200)] = Field(
        description="commands with the same key count together"
    )
    limit: Annotated[int, Field(ge=1, le=CONCURRENCY_LIMIT)] = Field(
        1, description="how many of them may be dispatched, running or stopping at a time"
    )
    when_busy: Literal["queue", "reject", "replace"] = Field(
        "queue",
        description="what to do if there are that many: wait; answer 409; or stop others and wait",
    )


CONCURRENCY_PARAMETERS = {
    "concurrency_key": "key",
    "concurrency_limit": "limit",
    "when_busy": "when_busy",
}
"""The query parameters for the fields of ``concurrency``, if the body is the script itself."""


class LimitsBody(BaseModel):
    """What a script may use; an absent limit is the service's own."""

    model_config = ConfigDict(extra="forbid", strict=True, title="SubmitLimits")

    cpu_seconds: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = Field(
        None, description="CPU time of each process; rounded up to whole seconds"
    )
    open_files: Annotated[int, Field(ge=64, le=1 << 30)] | None = Field(
        None, description="file descriptors of each process"
    )
    nice: Annotated[int, Field(ge=0, le=19)] | None = Field(
        None, description="added to the nice value; 19 is the lowest priority"
    )
    memory_bytes: Annotated[int, Field(ge=4 << 20, lt=1 << 63)] | None = Field(
        None, description="memory of all processes together"
    )
    processes: Annotated[int, Field(ge=1, le=1 << 22)] | None = Field(
        None, description="processes and threads of the whole process tree"
    )

    def limits(self) -> Limits | None:
        """Return the limits, None if none is set."""
        limits = Limits(**{name: getattr(self, name) for name in LimitsBody.model_fields})
        return limits if limits.fields() else None


Cells = Annotated[int, Field(ge=1, le=MAX_TERMINAL_CELLS)]


class PtyBody(BaseModel):
    """Size of a terminal."""

    model_config = ConfigDict(extra="forbid", strict=True, title="PtySize")

    rows: Cells = Field(description="lines")
    cols: Cells = Field(description="characters in a line")


class SubmitBody(BaseModel):
    """A script and how to run it."""

    model_config = ConfigDict(extra="forbid", strict=True, title="Submit")

    script: Annotated[Text, Field(min_length=1), _at_most(SCRIPT_BYTES)] = Field(
        description="the text that the interpreter runs; 1 byte to 1 MiB of UTF-8"
    )
    name: Annotated[Text, Field(max_length=200)] | None = Field(None, description="display name")
    labels: Annotated[
        dict[str, Label], Field(max_length=LABELS, fail_fast=True), AfterValidator(_label_keys)
    ] = Field(default={}, description="keys and values to find the command by")
    interpreter: (
        Annotated[list[Annotated[Word, Field(min_length=1)]], Field(min_length=1, fail_fast=True)]
        | None
    ) = Field(None, description="program and arguments; default: the script's #! line, or bash")
    # With fail_fast, the answer names only the first wrong item, and not thousands of wrong items.
    args: Annotated[list[Word], Field(fail_fast=True)] = Field(
        default=[], description="arguments of the script: $1, $2 and so on"
    )
    env: Annotated[dict[str, Text], Field(fail_fast=True), AfterValidator(_environment)] = Field(
        default={}, description="variables to add to the clean environment"
    )
    working_directory: Annotated[Text, Field(min_length=1, max_length=4095)] | None = Field(
        None, description="a path, or private for an empty directory; null: the shared one"
    )
    stdin: Annotated[str, _at_most(STDIN_BYTES)] | None = Field(
        None, description="text for standard input, at most 1 MiB; null: /dev/null"
    )
    interactive: bool = Field(
        default=False, description="takes input while it runs; stdin, if given, comes first"
    )
    pty: PtyBody | None = Field(
        None, description="run it in a terminal of this size; implies interactive"
    )
    timeout_seconds: Seconds | None = Field(
        None, description="time from the start until it is stopped"
    )
    queue_timeout_seconds: Seconds | None = Field(None, description="longest time before the start")
    grace_seconds: ShortSeconds = Field(
        10,
        description="time from a stop's signal to SIGKILL; 10 if absent, or the service's maximum",
        json_schema_extra=_without_default,
    )
    leftover_seconds: ShortSeconds = Field(
        2, description="time that background processes have after the script's end"
    )
    output_limit_bytes: Annotated[int, Field(ge=0, lt=1 << 63)] | None = Field(
        None,
        description="of both streams together; null: no limit; default: a setting, 10 GiB",
        json_schema_extra=_without_default,
    )
    on_output_limit: Literal["discard", "stop"] = Field(
        "discard",
        description="discard: store the first bytes, count the rest; stop: stop the command",
    )
    limits: LimitsBody | None = Field(None, description="what the script may use")
    priority: Annotated[int, Field(ge=-100, le=100)] = Field(0, description="higher starts first")
    concurrency: ConcurrencyBody | None = Field(None, description="limits how many run at a time")
    host: Annotated[Text, Field(min_length=1, max_length=255)] | None = Field(
        None, description="name of the host on which it must run"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Refuse arguments and environment that are too large together."""
        args = sum(len(word.encode()) for word in self.args)
        env = sum(len(name) + len(value.encode()) for name, value in self.env.items())
        if args + env > ARGUMENT_BYTES:
            message = f"args and env must have at most {ARGUMENT_BYTES} bytes of UTF-8 together"
            raise ValidationError(FieldError("args" if args > env else "env", message))
        return self

    def submission(self, defaults: SubmitDefaults) -> Submission:
        """Return the submission.

        Args:
            defaults: the values of fields that the request does not have. An output limit with the
                value null means no limit.
        """
        grace_seconds, output_limit_bytes = self.grace_seconds, self.output_limit_bytes
        if "grace_seconds" not in self.model_fields_set:
            grace_seconds = defaults.grace_seconds
        if "output_limit_bytes" not in self.model_fields_set:
            output_limit_bytes = defaults.output_limit_bytes
        return Submission(
            script=self.script,
            interpreter=tuple(self.interpreter or script_interpreter(self.script)),
            name=self.name,
            labels=self.labels,
            args=tuple(self.args),
            env=self.env,
            working_directory=self.working_directory,
            stdin=self.stdin,
            interactive=self.interactive or self.pty is not None,
            pty=None if self.pty is None else TerminalSize(self.pty.rows, self.pty.cols),
            timeout_seconds=self.timeout_seconds,
            queue_timeout_seconds=self.queue_timeout_seconds,
            grace_seconds=grace_seconds,
            leftover_seconds=self.leftover_seconds,
            output_limit_bytes=output_limit_bytes,
            on_output_limit=OnOutputLimit(self.on_output_limit),
            limits=None if self.limits is None else self.limits.limits(),
            priority=self.priority,
            concurrency=None
            if (given := self.concurrency) is None
            else Concurrency(given.key, given.limit, WhenBusy(given.when_busy)),
            host=self.host,
        )


class SignInBody(BaseModel):
    """A sign-in: either a token, or the code of a sign-in link."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        title="SignIn",
        json_schema_extra={"minProperties": 1, "maxProperties": 1},
    )

    token: Annotated[str, Field(max_length=512)] | SkipJsonSchema[None] = Field(
        None, description="as in Authorization", json_schema_extra=_without_default
    )
    code: Annotated[str, Field(max_length=512)] | SkipJsonSchema[None] = Field(
        None,
        description="the part after #code= of the link that serve prints",
        json_schema_extra=_without_default,
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        # Exactly one of the two fields must have a value, and the other field must be absent. Null
        # is not allowed.
        if len(self.model_fields_set) != 1 or self.token == self.code:
            message = "must have either token or code"
            raise ValueError(message)
        return self


def _signal(name: str) -> str:
    full = parse_signal(name)
    if full is None:
        message = "must be the name of a signal, such as SIGTERM or TERM"
        raise ValueError(message)
    return full


class StopBody(BaseModel):
    """How to stop a command."""

    model_config = ConfigDict(extra="forbid", strict=True, title="Stop")

    signal: Annotated[str, AfterValidator(_signal)] = Field(
        "SIGTERM", description="a name such as SIGTERM or TERM"
    )
    grace_seconds: ShortSeconds | None = Field(
        None, description="time from the signal to SIGKILL; null: the command's own"
    )


class SignalBody(BaseModel):
    """Which signal to send."""

    model_config = ConfigDict(extra="forbid", strict=True, title="Signal")

    signal: Annotated[str, AfterValidator(_signal)] = Field(
        description="a name such as SIGHUP or HUP"
    )


class InputQuery(BaseModel):
    """How to take the input."""

    model_config = ConfigDict(extra="forbid")

    offset: Annotated[int, Field(ge=0, lt=1 << 63)] | None = Field(
        None,
        description="bytes accepted so far, as the last answer said: makes a retry send nothing "
        "twice",
    )
    close: bool = Field(
        default=False, description="end the input after these bytes; Ctrl-D on a terminal"
    )


def _moment(text: str) -> int:
    """Return an RFC 3339 time as microseconds since 1970 UTC."""
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError as error:
        message = "must be a time such as 2026-11-23T16:20:00Z"
        raise ValueError(message) from error
    if moment.tzinfo is None:
        message = "must have a time zone: end it with Z"
        raise ValueError(message)
    return round(moment.timestamp() * 1_000_000)


class ListQuery(BaseModel):
    """Which commands to list."""

    model_config = ConfigDict(extra="forbid")

    status: list[Status] = Field(default=[], description="one of these statuses; may be repeated")
    label: list[Text] = Field(default=[], description="key=value; may be repeated, all must match")
    q: Text | None = Field(
        None, description="text in the name or script; the case of ASCII letters is ignored"
    )
    host: Text | None = Field(None, description="name of the host")
    id: Annotated[str, Field(pattern=r"^[0-9A-Fa-f-]{8,36}$")] | None = Field(
        None, description="first or last characters of the id, at least 8"
    )
    created_after: str | None = Field(None, description="RFC 3339")
    created_before: str | None = Field(None, description="RFC 3339")
    limit: Annotated[int, Field(ge=1, le=1000)] = Field(50, description="commands on a page")
    cursor: Text | None = Field(None, description="next_cursor of the previous page")


class WaitQuery(BaseModel):
    """How long to wait before the answer."""

    model_config = ConfigDict(extra="forbid")

    wait: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] | None = Field(
        None, description="seconds to wait for the command's end, at most 60"
    )


class EventsQuery(BaseModel):
    """Where to begin an event stream."""

    model_config = ConfigDict(extra="forbid")

    after: Annotated[int, Field(ge=0, lt=1 << 63)] = Field(
        0, description="position in the merged output; Last-Event-ID has precedence"
    )


class AttachQuery(BaseModel):
    """Where the output of an attached client begins."""

    model_config = ConfigDict(extra="forbid")

    after: Annotated[int, Field(ge=0, lt=1 << 63)] | None = Field(
        None, description="position in the merged output; absent: the present end"
    )


class OutputQuery(BaseModel):
    """Which output to send."""

    model_config = ConfigDict(extra="forbid")

    stream: Literal["stdout", "stderr", "merged"] = "merged"
    offset: Annotated[int, Field(ge=0, lt=1 << 63)] | None = Field(None, description="in bytes")
    limit: Annotated[int, Field(ge=0, lt=1 << 63)] | None = Field(None, description="in bytes")
    tail: Annotated[str, Field(pattern=r"^[0-9]{1,18}l?$")] | None = Field(
        None, description="N: the last N bytes; Nl: the last N lines"
    )
    follow: bool = Field(default=False, description="continue until the command is finished")


def field_errors(error: PydanticValidationError) -> ValidationError:
    """Return one error that contains all errors that pydantic has found; its status is 422."""
    found = []
    for entry in error.errors(include_url=False, include_input=False):
        path = ".".join(str(part)[:80] for part in entry["loc"]) or "body"
        found.append(FieldError(path, message_of(path, entry)))
    return ValidationError(*found)


_LISTS = {"status", "label", "env", "arg", "interpreter"}


def single_and_repeated(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Return query parameters as fields. The value of a parameter that may repeat is a list.

    Raises:
        ValidationError: a parameter that may not repeat is repeated.
    """
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in _LISTS:
            fields.setdefault(name, []).append(value)
        elif name in fields:
            raise ValidationError(FieldError(name, "must not be repeated"))
        else:
            fields[name] = value
    return fields


def key_and_value(name: str, text: str) -> tuple[str, str]:
    """Return the two sides of ``key=value``, split at the first ``=``.

    Raises:
        ValidationError: the text has no ``=``.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ValidationError(FieldError(name, "must be key=value"))
    return key, value


def keys_and_values(name: str, texts: list[str]) -> dict[str, str]:
    """Return ``key=value`` texts as a dictionary.

    Raises:
        ValidationError: a text has no ``=``, or a key is given twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, value = key_and_value(name, text)
        if key in found:
            raise ValidationError(FieldError(name, f"has the key {key[:80]!r} twice"))
        found[key] = value
    return found


def terminal_size(text: str) -> dict[str, int]:
    """Return the fields of a terminal's size that is written as ``24x80``: rows and columns.

    Raises:
        ValidationError: the text does not have this form.
    """
    if re.fullmatch(PTY_PATTERN, text) is None:
        raise ValidationError(FieldError("pty", "must be ROWSxCOLS, such as 24x80"))
    rows, cols = text.split("x")
    return {"rows": int(rows), "cols": int(cols)}


def list_moment(name: str, text: str | None) -> int | None:
    """Return a time of a query as microseconds since 1970 UTC.

    Args:
        name: name of the query parameter, for the error message.
        text: value of the parameter. If it is None, None is returned.

    Raises:
        ValidationError: the text is not a time with a time zone.
    """
    if text is None:
        return None
    try:
        return _moment(text)
    except (ValueError, OverflowError) as error:
        raise ValidationError(FieldError(name, str(error))) from error
