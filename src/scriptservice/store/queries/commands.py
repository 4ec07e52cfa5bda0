"""Stores new commands, and finds stored commands.

`Inserter` is a job of the writer; the functions are for readers.
"""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, insert, select

from scriptservice.errors import BusyError, IdempotencyMismatchError, UnknownCommandError
from scriptservice.model import (
    SCRIPT_PREVIEW_CHARACTERS,
    Command,
    Concurrency,
    Status,
    Stream,
)
from scriptservice.store.database.prepared_statement import PreparedStatement
from scriptservice.store.database.tables import commands, inputs, labels
from scriptservice.store.queries.command_rows import (
    JOINED,
    THERE,
    WHOLE,
    WITHOUT_SCRIPT,
    command_of,
    limits_text,
)
from scriptservice.store.queries.idempotency import StoredRequest, find_request, store_requests
from scriptservice.store.queries.queueing.concurrency_keys import Admission, admit, lock_keys
from scriptservice.store.queries.queueing.new_commands import (
    AdmittedCommand,
    InsertResult,
    NewCommand,
    RepeatedRequest,
    StoredCommand,
)
from scriptservice.store.queries.queueing.waiting_commands import explain_waiting

REMEMBERED_IDS = 1000
"""Number of ids that `Inserter` remembers: more than the number of commands in a transaction."""


def next_number(connection: Connection) -> int:
    """Return the number that the next new command gets."""
    return int(connection.execute(select(func.max(commands.c.number))).scalar() or 0) + 1


class Inserter:
    """The writer's job that stores new commands and gives them their numbers.

    The inserter counts the numbers itself, because a query for each number would cost more time
    than storing the command. Counting works because only one server writes, and that server has
    only one inserter.

    Args:
        number: number of the next command. The caller must get it from the function `next_number`
            before this server removes a command, because that function does not see removed
            commands.
    """

    def __init__(self, number: int) -> None:
        self._next = number
        # This holds the ids of the latest calls. A later call gets one of these ids again only if
        # the earlier transaction failed or was in doubt. For such an id the inserter asks the
        # database whether it has the command. For all other ids it saves that query. If the command
        # has a concurrency key, the latest decision about it is the one that may be committed.
        self._seen: dict[UUID, Admission | None] = {}

    @property
    def next_number(self) -> int:
        """The number that the next new command gets."""
        return self._next

    def __call__(self, connection: Connection, items: list[NewCommand]) -> list[InsertResult]:
        """Store commands, except those whose request was handled before.

        Returns:
            One result for each item, in order: the stored command. If the request was handled
            before, the result is the id of the command that it created earlier. If the idempotency
            key belongs to a request with other content, or if the concurrency key is busy and the
            command must not wait, the result is an error.
        """
        results: list[InsertResult | None] = []
        made: dict[tuple[str, str], StoredRequest] = {}
        new: list[NewCommand] = []
        stored_before = self._stored_before(connection, items)
        keys = {key.key for item in items if (key := item.submission.concurrency) is not None}
        if keys:
            lock_keys(connection, keys)
        for item in items:
            results.append(stored_before.get(item.id) or _repeated(connection, item, made))
            if results[-1] is not None:
                continue
            if item.submission.concurrency is None:
                new.append(item)
            else:
                results[-1] = self._store_with_key(connection, item, made)
        stored = iter(self._store(connection, new) if new else [])
        return [next(stored) if result is None else result for result in results]

    def _stored_before(
        self, connection: Connection, items: list[NewCommand]
    ) -> dict[UUID, StoredCommand]:
        """Return the commands that an earlier call has stored, by id.

        The writer repeats a call if the answer to the call's commit was lost.
        """
        again = [item for item in items if item.id in self._seen]
        self._seen.update((item.id, None) for item in items if item.id not in self._seen)
        while len(self._seen) > REMEMBERED_IDS:
            del self._seen[next(iter(self._seen))]
        if not again:
            return {}
        query = select(commands.c.id, commands.c.number).where(
            commands.c.id.in_([item.id for item in again])
        )
        numbers = {row.id: row.number for row in connection.execute(query)}
        return {
            item.id: item.stored_as(numbers[item.id], self._seen.get(item.id))
            for item in again
            if item.id in numbers
        }

    def _store_with_key(
        self,
        connection: Connection,
        item: NewCommand,
        made: dict[tuple[str, str], StoredRequest],
    ) -> AdmittedCommand | BusyError:
        """Decide about a command with a concurrency key, and store it.

        Such a command is stored alone, so that the decision about the next one finds it.
        """
        concurrency = item.submission.concurrency
        assert concurrency is not None  # noqa: S101 - for the type checker
        at_once = item.dispatched_to is not None
        admission = admit(connection, concurrency, item.id, item.created_at, at_once=at_once)
        if isinstance(admission, BusyError):
            if (request := item.origin.request) is not None:
                # No request is kept that has stored no command.
                del made[request.token, request.key]
            return admission
        self._seen[item.id] = admission
        (command,) = self._store(connection, [item.admitted(admission)])
        return AdmittedCommand.of(command, admission)

    def _store(self, connection: Connection, items: list[NewCommand]) -> list[Command]:
        """Store commands: any number without a concurrency key, or one with a key."""
        stored = [item.to_command(number) for number, item in enumerate(items, self._next)]
        self._next += len(items)
        if (concurrency := items[0].submission.concurrency) is None:
            _INSERT.execute(connection, [_row(*pair) for pair in zip(items, stored, strict=True)])
        else:
            _INSERT_WITH_KEY.execute(connection, [_row_with_key(items[0], stored[0], concurrency)])
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
            store_requests(connection, requests)
        return stored


def _repeated(
    connection: Connection, item: NewCommand, made: dict[tuple[str, str], StoredRequest]
) -> RepeatedRequest | IdempotencyMismatchError | None:
    """Return which earlier request an item repeats, or an error if only the keys are the same.

    Args:
        connection: connection to read from.
        item: the item.
        made: the requests of this transaction, by token and key. If the item repeats no request,
            its own request is added here and the result is None.
    """
    request = item.origin.request
    if request is None:
        return None
    name = (request.token, request.key)
    stored = made.get(name) or find_request(connection, request, item.created_at)
    if stored is None:
        made[name] = StoredRequest(request.fingerprint, item.id)
        return None
    if stored.fingerprint != request.fingerprint:
        return IdempotencyMismatchError(request.key)
    return RepeatedRequest(stored.command_id)


def _row(item: NewCommand, command: Command) -> dict[str, Any]:
    pty = item.submission.pty
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
        "interactive": item.submission.interactive,
        "pty_rows": None if pty is None else pty.rows,
        "pty_cols": None if pty is None else pty.cols,
        "dispatched_to": item.dispatched_to,
        "leftovers_killed": 0,
        "stdout_bytes": 0,
        "stderr_bytes": 0,
        "discarded_bytes": 0,
        "limits": limits_text(item.submission.limits),
    }


def _row_with_key(item: NewCommand, command: Command, wanted: Concurrency) -> dict[str, Any]:
    return _row(item, command) | {
        "concurrency_key": wanted.key,
        "concurrency_limit": wanted.limit,
        "when_busy": wanted.when_busy.value,
    }


def _input_row(command: Command) -> dict[str, Any]:
    submission = command.submission
    return {
        "number": command.number,
        "interpreter": _json(list(submission.interpreter)),
        "args": _json(list(submission.args)),
        "env": _json(submission.env),
        "labels": _json(submission.labels),
        "working_directory": submission.working_directory,
        "timeout_seconds": submission.timeout_seconds,
        "queue_timeout_seconds": submission.queue_timeout_seconds,
        "grace_seconds": submission.grace_seconds,
        "leftover_seconds": submission.leftover_seconds,
        "output_limit_bytes": submission.output_limit_bytes,
        "on_output_limit": submission.on_output_limit.value,
        "requested_host": submission.host,
        "stdin_bytes": command.stdin_bytes,
        "script": submission.script,
        "stdin": None if submission.stdin is None else submission.stdin.encode(),
        "traceparent": command.traceparent,
    }


_COLUMNS = (
    "number", "id", "status", "name", "script_preview", "host", "priority", "created_by",
    "rerun_of", "created_at", "interactive", "pty_rows", "pty_cols", "dispatched_to",
    "leftovers_killed", "stdout_bytes", "stderr_bytes", "discarded_bytes", "limits",
)  # fmt: skip
_INSERT = PreparedStatement(insert(commands), _COLUMNS)
_INSERT_WITH_KEY = PreparedStatement(
    insert(commands), (*_COLUMNS, "concurrency_key", "concurrency_limit", "when_busy")
)
_INSERT_INPUT = PreparedStatement(insert(inputs), inputs.columns.keys())
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def find(connection: Connection, command_id: UUID) -> Command:
    """Return a command with all its fields.

    Raises:
        UnknownCommandError: no command has this id.
    """
    query = select(*WHOLE).select_from(JOINED).where(commands.c.id == command_id, THERE)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise UnknownCommandError(command_id)
    return explain_waiting(connection, [command_of(row)])[0]


def find_without_script(connection: Connection, command_id: UUID) -> Command:
    """Return a command as events show it: without its script and stdin, which may be large.

    Raises:
        UnknownCommandError: no command has this id.
    """
    query = select(*WITHOUT_SCRIPT).select_from(JOINED).where(commands.c.id == command_id, THERE)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise UnknownCommandError(command_id)
    return explain_waiting(connection, [command_of(row)])[0]


@dataclass(frozen=True, slots=True)
class OutputExtent:
    """How much output a command has, and whether more can come.

    Attributes:
        number: number of the command.
        status: status of the command.
        stdout_bytes: number of bytes of stdout that are stored.
        stderr_bytes: number of bytes of stderr that are stored.
    """

    number: int
    status: Status
    stdout_bytes: int
    stderr_bytes: int

    @property
    def finished(self) -> bool:
        """Whether the command's status is final, so that no more output comes."""
        return self.status.final

    def size(self, stream: Stream) -> int:
        """Return how many bytes of a stream are stored; `Stream.MERGED` means both streams."""
        match stream:
            case Stream.STDOUT:
                return self.stdout_bytes
            case Stream.STDERR:
                return self.stderr_bytes
            case Stream.MERGED:
                return self.stdout_bytes + self.stderr_bytes


def find_extent(connection: Connection, command_id: UUID) -> OutputExtent:
    """Return how much output a command has.

    Raises:
        UnknownCommandError: no command has this id.
    """
    query = select(
        commands.c.number, commands.c.status, commands.c.stdout_bytes, commands.c.stderr_bytes
    ).where(commands.c.id == command_id, THERE)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise UnknownCommandError(command_id)
    return OutputExtent(row.number, Status(row.status), row.stdout_bytes, row.stderr_bytes)
