"""Commands in the database: submitting, finding, listing, dispatching, stopping, deleting.

Functions that take a list of items are jobs of the writer; the others are for readers. Every
change of status is one UPDATE guarded by the statuses it may come from.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)

from scriptservice.errors import (
    AlreadyFinishedError,
    IdempotencyMismatchError,
    NotFinishedError,
    UnknownCommandError,
)
from scriptservice.model import (
    OPEN,
    SCRIPT_PREVIEW_CHARACTERS,
    Command,
    Filter,
    OnOutputLimit,
    Outcome,
    RequestKey,
    Status,
    Submission,
    sources,
)
from scriptservice.store.idempotency import (
    KeptRequest,
    find_request,
    keep_requests,
)
from scriptservice.store.tables import commands, inputs, labels, output

_DELETE_CHUNKS = 64
_OUTCOME = [commands.c[field.name] for field in fields(Outcome)]
_HEAD = [
    commands.c.number,
    commands.c.id,
    commands.c.status,
    commands.c.name,
    commands.c.host,
    commands.c.priority,
    commands.c.created_by,
    commands.c.rerun_of,
    commands.c.created_at,
    *_OUTCOME,
    inputs.c.interpreter,
    inputs.c.args,
    inputs.c.env,
    inputs.c.labels,
    inputs.c.working_directory,
    inputs.c.timeout_seconds,
    inputs.c.queue_timeout_seconds,
    inputs.c.grace_seconds,
    inputs.c.leftover_seconds,
    inputs.c.output_limit_bytes,
    inputs.c.on_output_limit,
    inputs.c.requested_host,
    inputs.c.stdin_bytes,
]
_WHOLE = [*_HEAD, inputs.c.script, inputs.c.stdin]
_ITEM = [*_HEAD, commands.c.script_preview]
_JOINED = commands.join(inputs, commands.c.number == inputs.c.number)
_THERE = commands.c.deleted_at.is_(None)


@dataclass(frozen=True, slots=True)
class NewCommand:
    """A command about to be stored.

    Attributes:
        id: its id.
        submission: what was asked for.
        created_by: name of the token.
        created_at: microseconds since 1970 UTC.
        rerun_of: what it repeats.
        host: where it will run, if that is decided.
        dispatched_to: the keeper that will get it right after the commit, None to queue it.
        request: what names the request, None if nothing does.
    """

    id: UUID
    submission: Submission
    created_by: str
    created_at: int
    rerun_of: UUID | None
    host: str | None
    dispatched_to: str | None
    request: RequestKey | None = None

    def stored(self, number: int) -> Command:
        """Return the command as it stands in the database under a number."""
        stdin = self.submission.stdin
        return Command(
            number=number,
            id=self.id,
            submission=self.submission,
            status=Status.QUEUED,
            host=self.host,
            created_by=self.created_by,
            rerun_of=self.rerun_of,
            created_at=self.created_at,
            stdin_bytes=0 if stdin is None else len(stdin.encode()),
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
    """

    def __init__(self) -> None:
        self._next: int | None = None

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
        for item in items:
            results.append(_repeats(connection, item, made))
            if results[-1] is None:
                new.append(item)
        stored = iter(self._store(connection, new) if new else [])
        return [next(stored) if result is None else result for result in results]

    def _store(self, connection: Connection, items: list[NewCommand]) -> list[Command]:
        if self._next is None:
            self._next = next_number(connection)
        stored = [item.stored(number) for number, item in enumerate(items, self._next)]
        self._next += len(items)
        connection.execute(
            insert(commands), [_row(*pair) for pair in zip(items, stored, strict=True)]
        )
        connection.execute(insert(inputs), [_input_row(command) for command in stored])
        label_rows = [
            {"key": key, "value": value, "number": command.number}
            for command in stored
            for key, value in command.submission.labels.items()
        ]
        if label_rows:
            connection.execute(insert(labels), label_rows)
        requests = [
            (item.request, item.id, item.created_at) for item in items if item.request is not None
        ]
        if requests:
            keep_requests(connection, requests)
        return stored


def _repeats(
    connection: Connection, item: NewCommand, made: dict[tuple[str, str], KeptRequest]
) -> Repeated | IdempotencyMismatchError | None:
    """Return what an item repeats, of earlier transactions or of this one; note it if it is new."""
    request = item.request
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
        "created_by": item.created_by,
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
    }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _command(row: Row[Any]) -> Command:
    """Return the command of a row of `_WHOLE` or `_ITEM`."""
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    stdin = values.get("stdin")
    submission = Submission(
        script=values.get("script", values.get("script_preview")),
        interpreter=tuple(json.loads(row.interpreter)),
        name=row.name,
        labels=json.loads(row.labels),
        args=tuple(json.loads(row.args)),
        env=json.loads(row.env),
        working_directory=row.working_directory,
        stdin=None if stdin is None else stdin.decode(),
        timeout_seconds=row.timeout_seconds,
        queue_timeout_seconds=row.queue_timeout_seconds,
        grace_seconds=row.grace_seconds,
        leftover_seconds=row.leftover_seconds,
        output_limit_bytes=row.output_limit_bytes,
        on_output_limit=OnOutputLimit(row.on_output_limit),
        priority=row.priority,
        host=row.requested_host,
    )
    return Command(
        number=row.number,
        id=row.id,
        submission=submission,
        status=Status(row.status),
        host=row.host,
        created_by=row.created_by,
        rerun_of=row.rerun_of,
        created_at=row.created_at,
        stdin_bytes=row.stdin_bytes,
        outcome=Outcome(**{column.name: values[column.name] for column in _OUTCOME}),
    )


def find(connection: Connection, command: UUID) -> Command:
    """Return a command, whole.

    Raises:
        UnknownCommandError: there is none of that id.
    """
    query = select(*_WHOLE).select_from(_JOINED).where(commands.c.id == command, _THERE)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise UnknownCommandError(command)
    return _command(row)


def find_item(connection: Connection, command: UUID) -> Command:
    """Return a command as lists have it: without its script, which may be large.

    Raises:
        UnknownCommandError: there is none of that id.
    """
    query = select(*_ITEM).select_from(_JOINED).where(commands.c.id == command, _THERE)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise UnknownCommandError(command)
    return _command(row)


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


def extent(connection: Connection, command: UUID) -> Extent:
    """Return how much output a command has.

    Raises:
        UnknownCommandError: there is none of that id.
    """
    query = select(
        commands.c.number, commands.c.status, commands.c.stdout_bytes, commands.c.stderr_bytes
    ).where(commands.c.id == command, _THERE)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise UnknownCommandError(command)
    return Extent(row.number, Status(row.status), row.stdout_bytes, row.stderr_bytes)


def page(connection: Connection, wanted: Filter, limit: int, before: int | None) -> list[Command]:
    """Return commands, newest first, without their scripts.

    Args:
        connection: to read from.
        wanted: which.
        limit: at most so many.
        before: only those with a smaller number; None from the newest on.
    """
    conditions: list[ColumnElement[bool]] = [_THERE, *_conditions(wanted)]
    source = _JOINED
    order = commands.c.number
    if wanted.labels:
        # From the rarest thing asked for: the label's own index gives the numbers in order.
        (key, value), *others = wanted.labels
        source = labels.join(_JOINED, labels.c.number == commands.c.number)
        conditions += [labels.c.key == key, labels.c.value == value]
        conditions += [_labelled(*pair) for pair in others]
        order = labels.c.number
    if before is not None:
        conditions.append(order < before)
    query: Select[Any] = (
        select(*_ITEM).select_from(source).where(*conditions).order_by(order.desc()).limit(limit)
    )
    return [_command(row) for row in connection.execute(query)]


def _conditions(wanted: Filter) -> Iterable[ColumnElement[bool]]:
    if wanted.statuses:
        yield commands.c.status.in_([status.value for status in wanted.statuses])
    if wanted.host is not None:
        yield commands.c.host == wanted.host
    if wanted.created_after is not None:
        yield commands.c.created_at > wanted.created_after
    if wanted.created_before is not None:
        yield commands.c.created_at < wanted.created_before
    if wanted.text is not None:
        needle = _lower_ascii(wanted.text)
        # SQLite's lower() and position() know ASCII letters only, which is what is promised.
        yield (func.instr(func.lower(commands.c.name), needle) > 0) | (
            func.instr(func.lower(inputs.c.script), needle) > 0
        )


def _lower_ascii(text: str) -> str:
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def _labelled(key: str, value: str) -> ColumnElement[bool]:
    other = labels.alias()  # the list itself may be read from the labels
    return exists().where(
        other.c.key == key, other.c.value == value, other.c.number == commands.c.number
    )


# Dispatch


def waiting(connection: Connection, host: str, limit: int) -> list[Command]:
    """Return queued commands that were sent nowhere, in the order in which they are to start."""
    query = (
        select(*_WHOLE)
        .select_from(_JOINED)
        .where(
            commands.c.status == Status.QUEUED.value,
            commands.c.dispatched_to.is_(None),
            inputs.c.requested_host.is_(None) | (inputs.c.requested_host == host),
            _THERE,
        )
        .order_by(commands.c.priority.desc(), commands.c.number)
        .limit(limit)
    )
    return [_command(row) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark that a command goes to a keeper."""

    number: int
    host: str
    keeper: str


def mark_dispatched(connection: Connection, items: list[Mark]) -> list[bool]:
    """Mark queued commands as going to a keeper; return which still could be marked."""
    statement = (
        update(commands)
        .where(
            commands.c.number == bindparam("the_number"),
            commands.c.status == Status.QUEUED.value,
            commands.c.dispatched_to.is_(None),
            _THERE,
        )
        .values(dispatched_to=bindparam("keeper"), host=bindparam("on_host"))
    )
    return [
        connection.execute(
            statement, {"the_number": item.number, "keeper": item.keeper, "on_host": item.host}
        ).rowcount
        == 1
        for item in items
    ]


@dataclass(frozen=True, slots=True)
class OpenCommand:
    """A command that is not final, as the fleet needs it.

    Attributes:
        number: the command's.
        id: likewise.
        status: likewise.
        outcome: what is recorded so far.
        dispatched_to: the keeper it was sent to, None if it waits.
        stop_signal: what it is to be stopped with, None if nobody asked.
        stop_grace_seconds: the grace that goes with it.
        created_at: microseconds since 1970 UTC.
        queue_timeout_seconds: how long it may wait.
    """

    number: int
    id: UUID
    status: Status
    outcome: Outcome
    dispatched_to: str | None
    stop_signal: str | None
    stop_grace_seconds: float | None
    created_at: int
    queue_timeout_seconds: float | None


_OPEN_COLUMNS = [
    commands.c.number,
    commands.c.id,
    commands.c.status,
    *_OUTCOME,
    commands.c.dispatched_to,
    commands.c.stop_signal,
    commands.c.stop_grace_seconds,
    commands.c.created_at,
    inputs.c.queue_timeout_seconds,
]


def _open_command(row: Row[Any]) -> OpenCommand:
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    return OpenCommand(
        number=row.number,
        id=row.id,
        status=Status(row.status),
        outcome=Outcome(**{column.name: values[column.name] for column in _OUTCOME}),
        dispatched_to=row.dispatched_to,
        stop_signal=row.stop_signal,
        stop_grace_seconds=row.stop_grace_seconds,
        created_at=row.created_at,
        queue_timeout_seconds=row.queue_timeout_seconds,
    )


def open_commands(connection: Connection) -> list[OpenCommand]:
    """Return all commands that are not final."""
    query = (
        select(*_OPEN_COLUMNS)
        .select_from(_JOINED)
        .where(commands.c.status.in_([status.value for status in OPEN]))
    )
    return [_open_command(row) for row in connection.execute(query)]


def by_ids(connection: Connection, ids: Sequence[UUID]) -> list[OpenCommand]:
    """Return those of these commands that exist, whatever their status."""
    query = select(*_OPEN_COLUMNS).select_from(_JOINED).where(commands.c.id.in_(ids))
    return [_open_command(row) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Ending:
    """A queued command that ends without having started, or one that nobody can know of.

    Attributes:
        number: the command's.
        status: its final one.
        reason: one plain sentence.
        at: microseconds since 1970 UTC.
    """

    number: int
    status: Status
    reason: str
    at: int


def end_unstarted(connection: Connection, items: list[Ending]) -> list[bool]:
    """End queued commands that were sent nowhere; return which still were."""
    return [
        connection.execute(
            update(commands)
            .where(
                commands.c.number == item.number,
                commands.c.status == Status.QUEUED.value,
                commands.c.dispatched_to.is_(None),
            )
            .values(status=item.status.value, reason=item.reason, finished_at=item.at)
        ).rowcount
        == 1
        for item in items
    ]


def end_unknown(connection: Connection, items: list[Ending]) -> list[bool]:
    """Make commands lost, whatever they are short of final; return which were not final."""
    allowed = [status.value for status in sources(Status.LOST)]
    return [
        connection.execute(
            update(commands)
            .where(commands.c.number == item.number, commands.c.status.in_(allowed))
            .values(status=item.status.value, reason=item.reason, finished_at=item.at)
        ).rowcount
        == 1
        for item in items
    ]


def unmark(connection: Connection, items: list[str]) -> list[int]:
    """Let commands wait again that a keeper, which ends in order, will never start.

    Args:
        connection: to write to.
        items: identities of such keepers.

    Returns:
        How many, for each.
    """
    return [
        connection.execute(
            update(commands)
            .where(
                commands.c.status == Status.QUEUED.value,
                commands.c.dispatched_to == keeper,
            )
            .values(dispatched_to=None)
        ).rowcount
        for keeper in items
    ]


# What users ask for


@dataclass(frozen=True, slots=True)
class StopRequest:
    """A wish to stop a command.

    Attributes:
        id: the command's.
        signal: its full name.
        grace_seconds: None for the command's own.
        at: microseconds since 1970 UTC.
    """

    id: UUID
    signal: str
    grace_seconds: float | None
    at: int


def request_stop(
    connection: Connection, items: list[StopRequest]
) -> list["Command | AlreadyFinishedError | UnknownCommandError"]:
    """Keep wishes to stop, so that they outlive the server; end at once what never started.

    Returns:
        The command as it is then, or why it cannot be stopped.
    """
    return [_request_stop(connection, item) for item in items]


def _request_stop(
    connection: Connection, item: StopRequest
) -> "Command | AlreadyFinishedError | UnknownCommandError":
    try:
        command = find(connection, item.id)
    except UnknownCommandError as error:
        return error
    if command.status.final:
        return AlreadyFinishedError(command)
    reason = "stopped before it started"
    ending = Ending(command.number, Status.STOPPED, reason, item.at)
    if command.status is not Status.QUEUED or not end_unstarted(connection, [ending])[0]:
        asked = command.submission.grace_seconds
        grace = asked if item.grace_seconds is None else item.grace_seconds
        connection.execute(
            update(commands)
            .where(
                commands.c.number == command.number,
                commands.c.stop_signal.is_(None) | (commands.c.stop_grace_seconds > grace),
            )
            .values(
                stop_signal=func.coalesce(commands.c.stop_signal, item.signal),
                stop_grace_seconds=grace,
            )
        )
    return find(connection, item.id)


@dataclass(frozen=True, slots=True)
class Deletion:
    """A wish to delete a finished command."""

    id: UUID
    at: int


def mark_deleted(
    connection: Connection, items: list[Deletion]
) -> list["int | NotFinishedError | UnknownCommandError"]:
    """Let finished commands be gone for everyone; return their numbers or why not."""
    results: list[int | NotFinishedError | UnknownCommandError] = []
    for item in items:
        try:
            found = extent(connection, item.id)
        except UnknownCommandError as error:
            results.append(error)
            continue
        if not found.finished:
            results.append(NotFinishedError(item.id))
            continue
        connection.execute(
            update(commands).where(commands.c.number == found.number).values(deleted_at=item.at)
        )
        connection.execute(delete(labels).where(labels.c.number == found.number))
        results.append(found.number)
    return results


def deleted_numbers(connection: Connection) -> list[int]:
    """Return the commands that are deleted but not yet removed."""
    query = select(commands.c.number).where(commands.c.deleted_at.is_not(None))
    return list(connection.execute(query).scalars())


def remove_some(connection: Connection, items: list[int]) -> list[bool]:
    """Remove a bounded part of deleted commands; return for each whether it is all gone."""
    return [_remove_some(connection, number) for number in items]


def _remove_some(connection: Connection, number: int) -> bool:
    some = (
        select(output.c.position)
        .where(output.c.number == number)
        .order_by(output.c.position)
        .limit(_DELETE_CHUNKS)
    )
    removed = connection.execute(
        delete(output).where(output.c.number == number, output.c.position.in_(some))
    ).rowcount
    if removed == _DELETE_CHUNKS:
        return False
    connection.execute(delete(inputs).where(inputs.c.number == number))
    connection.execute(delete(commands).where(commands.c.number == number))
    return True
