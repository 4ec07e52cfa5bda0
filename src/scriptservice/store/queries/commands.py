"""Commands in the database: stored, and found again.

`Inserter` is a job of the writer; the functions are for readers.
"""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, insert, select

from scriptservice.errors import IdempotencyMismatchError, UnknownCommandError
from scriptservice.model import (
    SCRIPT_PREVIEW_CHARACTERS,
    Command,
    Origin,
    Status,
    Stream,
    Submission,
)
from scriptservice.store.database.tables import commands, inputs, labels
from scriptservice.store.queries.command_rows import (
    JOINED,
    THERE,
    WHOLE,
    WITHOUT_SCRIPT,
    command_of,
)
from scriptservice.store.queries.idempotency import KeptRequest, find_request, keep_requests
from scriptservice.store.queries.prepared import Prepared

SEEN = 1000
"""How many ids `Inserter` remembers: more than one transaction holds."""


@dataclass(frozen=True, slots=True)
class NewCommand:
    """A command about to be stored.

    Attributes:
        id: its id.
        submission: what was asked for.
        origin: where it comes from.
        created_at: microseconds since 1970 UTC.
        rerun_of: what it repeats.
        host: where it will run, if that is decided.
        dispatched_to: the keeper that will get it right after the commit, None to queue it.
    """

    id: UUID
    submission: Submission
    origin: Origin
    created_at: int
    rerun_of: UUID | None
    host: str | None
    dispatched_to: str | None

    def stored(self, number: int) -> Command:
        """Return the command as it stands in the database under a number."""
        stdin = self.submission.stdin
        return Command(
            number=number,
            id=self.id,
            submission=self.submission,
            status=Status.QUEUED,
            host=self.host,
            created_by=self.origin.created_by,
            rerun_of=self.rerun_of,
            created_at=self.created_at,
            stdin_bytes=0 if stdin is None else len(stdin.encode()),
            traceparent=self.origin.traceparent,
        )


@dataclass(frozen=True, slots=True)
class Repeated:
    """A request that has been here before; nothing was stored for it.

    Attributes:
        command: what it made then; that may be deleted meanwhile.
    """

    command: UUID


def next_number(connection: Connection) -> int:
    """Return the number that the next command gets."""
    return int(connection.execute(select(func.max(commands.c.number))).scalar() or 0) + 1


class Inserter:
    """The writer's job that stores new commands; it counts their numbers itself.

    There is one, since there is one writer: asking the database for each number would cost more
    than storing the command.

    Args:
        number: the next one; read before anything could have been removed by this server.
    """

    def __init__(self, number: int) -> None:
        self._next = number
        # The ids it was called with last. It is called with one of them again if a transaction
        # failed, and only then may that command be there already.
        self._seen: dict[UUID, None] = {}

    @property
    def next_number(self) -> int:
        """The number that the next new command gets."""
        return self._next

    def __call__(
        self, connection: Connection, items: list[NewCommand]
    ) -> list[Command | Repeated | IdempotencyMismatchError]:
        """Store commands, but none twice whose request has been here before.

        Returns:
            The commands with their numbers, in the order of submission; or what they repeat; or
            that their key belongs to a request that says something else.
        """
        results: list[Command | Repeated | IdempotencyMismatchError | None] = []
        made: dict[tuple[str, str], KeptRequest] = {}
        new: list[NewCommand] = []
        there = self._stored_before(connection, items)
        for item in items:
            results.append(there.get(item.id) or _repeats(connection, item, made))
            if results[-1] is None:
                new.append(item)
        stored = iter(self._store(connection, new) if new else [])
        return [next(stored) if result is None else result for result in results]

    def _stored_before(
        self, connection: Connection, items: list[NewCommand]
    ) -> dict[UUID, Command]:
        """Return those that an earlier call has stored, of which nobody heard."""
        again = [item for item in items if item.id in self._seen]
        self._seen.update((item.id, None) for item in items)
        while len(self._seen) > SEEN:
            del self._seen[next(iter(self._seen))]
        if not again:
            return {}
        query = select(commands.c.id, commands.c.number).where(
            commands.c.id.in_([item.id for item in again])
        )
        numbers = {row.id: row.number for row in connection.execute(query)}
        return {item.id: item.stored(numbers[item.id]) for item in again if item.id in numbers}

    def _store(self, connection: Connection, items: list[NewCommand]) -> list[Command]:
        stored = [item.stored(number) for number, item in enumerate(items, self._next)]
        self._next += len(items)
        _INSERT.execute(connection, [_row(*pair) for pair in zip(items, stored, strict=True)])
        _INSERT_INPUT.execute(connection, [_input_row(command) for command in stored])
        label_rows = [
            {"key": key, "value": value, "number": command.number}
            for command in stored
            for key, value in command.submission.labels.items()
        ]
        if label_rows:
            connection.execute(insert(labels), label_rows)
        requests = [
            (item.origin.request, item.id, item.created_at)
            for item in items
            if item.origin.request is not None
        ]
        if requests:
            keep_requests(connection, requests)
        return stored


def _repeats(
    connection: Connection, item: NewCommand, made: dict[tuple[str, str], KeptRequest]
) -> Repeated | IdempotencyMismatchError | None:
    """Return what an item repeats, of earlier transactions or of this one; note it if it is new."""
    request = item.origin.request
    if request is None:
        return None
    name = (request.token, request.key)
    kept = made.get(name) or find_request(connection, request, item.created_at)
    if kept is None:
        made[name] = KeptRequest(request.fingerprint, item.id)
        return None
    if kept.fingerprint != request.fingerprint:
        return IdempotencyMismatchError(request.key)
    return Repeated(kept.command)


def _row(item: NewCommand, command: Command) -> dict[str, Any]:
    return {
        "number": command.number,
        "id": command.id,
        "status": command.status.value,
        "name": item.submission.name,
        "script_preview": item.submission.script[:SCRIPT_PREVIEW_CHARACTERS],
        "host": item.host,
        "priority": item.submission.priority,
        "created_by": item.origin.created_by,
        "rerun_of": item.rerun_of,
        "created_at": item.created_at,
        "dispatched_to": item.dispatched_to,
        "leftovers_killed": 0,
        "stdout_bytes": 0,
        "stderr_bytes": 0,
        "discarded_bytes": 0,
    }


def _input_row(command: Command) -> dict[str, Any]:
    asked = command.submission
    return {
        "number": command.number,
        "interpreter": _json(list(asked.interpreter)),
        "args": _json(list(asked.args)),
        "env": _json(asked.env),
        "labels": _json(asked.labels),
        "working_directory": asked.working_directory,
        "timeout_seconds": asked.timeout_seconds,
        "queue_timeout_seconds": asked.queue_timeout_seconds,
        "grace_seconds": asked.grace_seconds,
        "leftover_seconds": asked.leftover_seconds,
        "output_limit_bytes": asked.output_limit_bytes,
        "on_output_limit": asked.on_output_limit.value,
        "requested_host": asked.host,
        "stdin_bytes": command.stdin_bytes,
        "script": asked.script,
        "stdin": None if asked.stdin is None else asked.stdin.encode(),
        "traceparent": command.traceparent,
    }


_INSERT = Prepared(
    insert(commands),
    (
        "number", "id", "status", "name", "script_preview", "host", "priority", "created_by",
        "rerun_of", "created_at", "dispatched_to", "leftovers_killed", "stdout_bytes",
        "stderr_bytes", "discarded_bytes",
    ),
)  # fmt: skip
_INSERT_INPUT = Prepared(insert(inputs), inputs.columns.keys())
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def find(connection: Connection, command: UUID) -> Command:
    """Return a command, whole.

    Raises:
        UnknownCommandError: there is none of that id.
    """
    query = select(*WHOLE).select_from(JOINED).where(commands.c.id == command, THERE)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise UnknownCommandError(command)
    return command_of(row)


def find_without_script(connection: Connection, command: UUID) -> Command:
    """Return a command as events have it: without its script, which may be large.

    Raises:
        UnknownCommandError: there is none of that id.
    """
    query = select(*WITHOUT_SCRIPT).select_from(JOINED).where(commands.c.id == command, THERE)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise UnknownCommandError(command)
    return command_of(row)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much output a command has, and whether more can come.

    Attributes:
        number: the command's.
        status: how far the command is.
        stdout_bytes: stored so far.
        stderr_bytes: stored so far.
    """

    number: int
    status: Status
    stdout_bytes: int
    stderr_bytes: int

    @property
    def finished(self) -> bool:
        """Whether its status is final."""
        return self.status.final

    def size(self, stream: Stream) -> int:
        """Return how many bytes of a stream, or of both, are stored."""
        match stream:
            case Stream.STDOUT:
                return self.stdout_bytes
            case Stream.STDERR:
                return self.stderr_bytes
            case Stream.MERGED:
                return self.stdout_bytes + self.stderr_bytes


def extent(connection: Connection, command: UUID) -> Extent:
    """Return how much output a command has.

    Raises:
        UnknownCommandError: there is none of that id.
    """
    query = select(
        commands.c.number, commands.c.status, commands.c.stdout_bytes, commands.c.stderr_bytes
    ).where(commands.c.id == command, THERE)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise UnknownCommandError(command)
    return Extent(row.number, Status(row.status), row.stdout_bytes, row.stderr_bytes)
