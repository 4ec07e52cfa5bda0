"""Models of responses, for the OpenAPI document.

The server does not build responses with these models. Tests compare the models with the contract
and with real responses. If a model's name ends in ``Json``, the document leaves out this ending.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from scriptservice.model import Status


class _Response(BaseModel):
    """The base of the models. Pydantic completes a model only when OpenAPI needs the model."""

    model_config = ConfigDict(defer_build=True)


_TIME: JsonDict = {"format": "date-time"}
_Time = Annotated[str, Field(json_schema_extra=_TIME)]
_Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]


class OutputJson(_Response):
    """How much a command has printed."""

    bytes: int
    stdout_bytes: int
    stderr_bytes: int
    discarded_bytes: int = Field(description="beyond output_limit_bytes")


class Usage(_Response):
    """The resources that a command has used; null until it exits."""

    user_seconds: float | None
    system_seconds: float | None
    max_rss_bytes: int | None


class Pty(_Response):
    """Size of a terminal."""

    rows: int
    cols: int


class _CommandFields(_Response):
    model_config = ConfigDict(extra="forbid", defer_build=True)

    id: _Id
    status: Status
    name: str | None
    labels: dict[str, str]
    interpreter: list[str]
    working_directory: str | None
    stdin_bytes: int
    interactive: bool
    pty: Pty | None
    timeout_seconds: float | None
    queue_timeout_seconds: float | None
    grace_seconds: float
    leftover_seconds: float
    output_limit_bytes: int | None
    on_output_limit: Literal["discard", "stop"]
    priority: int
    host: str | None
    created_by: str
    rerun_of: _Id | None
    created_at: _Time
    started_at: _Time | None
    exited_at: _Time | None
    finished_at: _Time | None
    exit_code: int | None
    signal: str | None
    reason: str | None
    leftovers_killed: int
    output: OutputJson
    usage: Usage


class _WholeFields(_CommandFields):
    args: list[str]
    env: dict[str, str]


class CommandJson(_WholeFields):
    """One run of one script."""

    script: str


class CommandItem(_CommandFields):
    """A command in a list: without args and env."""

    script_preview: str = Field(description="the first 200 characters of the script")


class CommandPage(_Response):
    """One page of a list."""

    items: list[CommandItem]
    next_cursor: str | None


class HostJson(_Response):
    """A machine that runs commands."""

    name: str
    status: Literal["up", "silent", "draining"]
    pool: str
    labels: dict[str, str]
    running: int
    capacity: int | None
    last_seen_at: _Time
    version: str
    keeper_pid: int | None
    child_pid: int | None


class HostList(_Response):
    """All hosts."""

    items: list[HostJson]


class FieldProblem(_Response):
    """An error in one field."""

    field: str
    message: str


class AcceptedInputJson(_Response):
    """Input that was given to the keeper."""

    accepted_bytes: int = Field(description="size of this input")
    offset: int = Field(description="bytes accepted so far, with these; goes into offset")


class Problem(_Response):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldProblem] | None = Field(None, description="for 422")
    command: CommandJson | None = Field(None, description="for already-finished")
    offset: int | None = Field(None, description="for offset-mismatch: bytes accepted so far")


class OutputEvent(_Response):
    """Data of an ``output`` event: one stream, one contiguous range of positions."""

    stream: Literal["stdout", "stderr"]
    position: int = Field(description="of its first byte in the merged output")
    stream_offset: int = Field(description="of its first byte in its stream")
    time: _Time
    text: str | None = Field(None, description="the bytes, where they are UTF-8")
    base64: str | None = Field(None, description="the bytes, where they are not")


class CommandEvent(_WholeFields):
    """Data of a ``status`` or ``end`` event: the command without its script."""


class SessionJson(_Response):
    """Who is signed in to the page."""

    name: str = Field(description="of the token")
    scope: Literal["read", "run", "admin"]
    csrf_token: str = Field(description="goes into X-CSRF-Token where something changes")


class Health(_Response):
    """The process is up."""

    status: Literal["ok"]


class UnkillableProcess(_Response):
    """A process of a command that the keeper is not permitted to signal."""

    pid: int
    uid: int
    command: str = Field(description="the command's id")


class Readiness(_Response):
    """The service can do its work."""

    status: Literal["ready"]
    store: Literal["ok"]
    keeper: Literal["ok"]
    tree_kill: Literal["cgroup", "walk"]
    spawn: Literal["clone", "launcher", "fork"]
    degraded: list[str]
    unkillable: list[UnkillableProcess]
