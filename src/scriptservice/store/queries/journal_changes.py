"""Stores what the recorder read from a journal: output, changes of commands, and the position.

A part of a journal is one item of one job, so it is stored in one transaction. When a server reads
the journal again after a crash, the database therefore has either all of that part or nothing.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, func, insert, select, update

from scriptservice.model import Outcome, Status
from scriptservice.store.database.prepared_statement import PreparedStatement
from scriptservice.store.database.schema import mark_compressed_output
from scriptservice.store.database.tables import commands, hosts, output
from scriptservice.store.queries.dispatching import STOPPED_BEFORE_START


class StatusConflictError(Exception):
    """A command's status is not the status that the recorder expects; nothing was stored."""


class OtherDatabaseError(Exception):
    """The database is not the one that this server used before, or is an older copy of it."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A contiguous piece of one stream's output.

    Attributes:
        number: number of the command.
        position: offset of the chunk's first byte in the merged output.
        stream: 1 for stdout, 2 for stderr.
        stream_offset: offset of the chunk's first byte in that stream.
        time: when the chunk's first byte was read, in microseconds since 1970 UTC.
        data: the bytes; compressed ones if ``compression`` says so.
        compression: `compression.ZSTD`, or None if ``data`` has the bytes as printed. Only chunks
            that are about to be stored are compressed.
    """

    number: int
    position: int
    stream: int
    stream_offset: int
    time: int
    data: bytes
    compression: int | None = None


@dataclass(frozen=True, slots=True)
class CommandChange:
    """A change of a command, from the keeper's journal.

    Attributes:
        number: number of the command.
        before: status of the command in the database.
        after: new status of the command, which can be reached from ``before`` by allowed
            transitions.
        outcome: all that is known about the command's run.
        given_back_at: when the keeper gave the command back without starting it, in microseconds
            since 1970 UTC; None if the keeper did not give it back. A command that was given back
            waits again, or becomes stopped if a stop was requested meanwhile.
    """

    number: int
    before: Status
    after: Status
    outcome: Outcome
    given_back_at: int | None = None


@dataclass(frozen=True, slots=True)
class JournalChanges:
    """A part of a host's journal, ready to be stored.

    Attributes:
        host: name of the host.
        journal: id of the journal.
        begin: journal position at which this part begins; the database must already have the
            journal up to this position.
        position: journal position at which this part ends.
        chunks: new output.
        changes: changes of commands; at most one change for each command.
    """

    host: str
    journal: str
    begin: int
    position: int
    chunks: list[Chunk] = field(default_factory=list)
    changes: list[CommandChange] = field(default_factory=list)


_OUTCOME_NAMES = Outcome._fields
_NEW_NAMES = [f"new_{name}" for name in _OUTCOME_NAMES]
_INSERT_CHUNK = PreparedStatement(insert(output), Chunk.__slots__)
_UPDATE_COMMAND = PreparedStatement(
    update(commands)
    .where(
        commands.c.number == bindparam("the_number"),
        commands.c.status == bindparam("before"),
    )
    .values(
        status=bindparam("after"),
        # A command of an earlier release has no value yet: its output is stored as printed. The
        # right side of an assignment has the values before the UPDATE.
        stored_bytes=func.coalesce(
            commands.c.stored_bytes, commands.c.stdout_bytes + commands.c.stderr_bytes
        )
        + bindparam("added_bytes", type_=BigInteger),
        **{name: bindparam(f"new_{name}") for name in _OUTCOME_NAMES},
    ),
)
_IS_GIVEN_BACK = (
    commands.c.number == bindparam("the_number"),
    commands.c.status == Status.QUEUED.value,
)
_REQUEUE = (
    update(commands)
    .where(*_IS_GIVEN_BACK, commands.c.stop_signal.is_(None))
    .values(dispatched_to=None)
)
_STOP_GIVEN_BACK = (
    update(commands)
    .where(*_IS_GIVEN_BACK, commands.c.stop_signal.is_not(None))
    .values(
        status=Status.STOPPED.value,
        reason=func.coalesce(commands.c.stop_reason, STOPPED_BEFORE_START),
        finished_at=bindparam("at"),
    )
)
_UPDATE_POSITION = PreparedStatement(
    update(hosts)
    .where(
        hosts.c.name == bindparam("the_name"),
        hosts.c.journal == bindparam("the_journal"),
        hosts.c.journal_position == bindparam("old_position"),
    )
    .values(journal_position=bindparam("new_position")),
)


def store_journal_changes(connection: Connection, items: list[JournalChanges]) -> list[set[int]]:
    """Store parts of journals; an exception rolls back the whole transaction.

    A part that is already stored is not stored again.

    Returns:
        For each part, the numbers of commands that their keeper gave back and that became stopped.

    Raises:
        StatusConflictError: a command's status is not the status that the recorder expects.
        OtherDatabaseError: the journal position in the database is neither the begin nor the end
            of the part.
    """
    return [_store(connection, item) for item in items]


def _store(connection: Connection, item: JournalChanges) -> set[int]:
    if _advance(connection, item):
        _write(connection, item)
    given_back = {change.number: change.given_back_at for change in item.changes}
    return _stopped_numbers(connection, {n: at for n, at in given_back.items() if at is not None})


def _write(connection: Connection, item: JournalChanges) -> None:
    if item.chunks:
        _INSERT_CHUNK.execute(connection, [_chunk_row(chunk) for chunk in item.chunks])
        if any(chunk.compression is not None for chunk in item.chunks):
            mark_compressed_output(connection)
    changed = [change for change in item.changes if change.given_back_at is None]
    if changed:
        added_bytes: Counter[int] = Counter()
        for chunk in item.chunks:
            added_bytes[chunk.number] += len(chunk.data)
        rows = [_change_row(change, added_bytes[change.number]) for change in changed]
        done = _UPDATE_COMMAND.execute(connection, rows)
        if done != len(changed):
            message = f"cannot change {len(changed)} commands: only {done} have the expected status"
            raise StatusConflictError(message)
    for change in item.changes:
        if change.given_back_at is not None:
            connection.execute(_REQUEUE, {"the_number": change.number})
            connection.execute(
                _STOP_GIVEN_BACK, {"the_number": change.number, "at": change.given_back_at}
            )


def _stopped_numbers(connection: Connection, given_back: dict[int, int]) -> set[int]:
    """Return the numbers of commands that became stopped when their keeper gave them back.

    Args:
        connection: connection to read from.
        given_back: when each command was given back, by its number.
    """
    if not given_back:
        return set()
    query = select(commands.c.number, commands.c.finished_at).where(
        commands.c.number.in_(given_back), commands.c.status == Status.STOPPED.value
    )
    return {
        row.number for row in connection.execute(query) if row.finished_at == given_back[row.number]
    }


def _advance(connection: Connection, item: JournalChanges) -> bool:
    """Store the new position of a journal; return False if that position was already stored.

    Raises:
        OtherDatabaseError: the journal position in the database is neither the begin nor the end
            of the part.
    """
    values = {
        "the_name": item.host,
        "the_journal": item.journal,
        "old_position": item.begin,
        "new_position": item.position,
    }
    if _UPDATE_POSITION.execute(connection, [values]) == 1:
        return True
    query = select(hosts.c.journal_position).where(
        hosts.c.name == item.host, hosts.c.journal == item.journal
    )
    stored: int | None = connection.execute(query).scalar()
    if stored == item.position:
        return False
    message = f"cannot store the journal from {item.begin} on: it is stored up to {stored}"
    raise OtherDatabaseError(message)


def _chunk_row(chunk: Chunk) -> dict[str, Any]:
    return {name: getattr(chunk, name) for name in Chunk.__slots__}


def _change_row(change: CommandChange, added_bytes: int) -> dict[str, Any]:
    values = dict(zip(_NEW_NAMES, change.outcome, strict=True))
    values["added_bytes"] = added_bytes
    values["the_number"] = change.number
    values["before"] = change.before.value
    values["after"] = change.after.value
    return values
