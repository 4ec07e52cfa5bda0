"""What the recorder writes: output, changes of commands and how far the journal is recorded.

All of it is one item of one job, so that it stands in one transaction: a replay after a crash
finds either everything or nothing of it.
"""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from scriptservice.model import Outcome, Status
from scriptservice.store.database.tables import commands, hosts, output
from scriptservice.store.queries.prepared import Prepared


class RecordingConflictError(Exception):
    """A command is not what the recorder took it for; nothing of the batch was written."""


class OtherDatabaseError(Exception):
    """The database is not where this recorder left it: an older one, as after a failover."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Output to be stored.

    Attributes:
        number: the command's.
        position: offset of its first byte in the merged output.
        stream: 1 stdout, 2 stderr.
        stream_offset: offset of its first byte in that stream.
        time: when its first byte was read, microseconds since 1970 UTC.
        data: the bytes.
    """

    number: int
    position: int
    stream: int
    stream_offset: int
    time: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a command.

    Attributes:
        number: the command's.
        before: its status in the database.
        after: its status from now on, reached by allowed steps.
        outcome: all that is known of its run.
        given_back_at: when its keeper gave it back unstarted, microseconds since 1970 UTC: it
            waits again, or is stopped if someone asked for that meanwhile.
    """

    number: int
    before: Status
    after: Status
    outcome: Outcome
    given_back_at: int | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """A part of a host's journal, ready to be stored.

    Attributes:
        host: whose.
        journal: the journal's id.
        begin: how far it was recorded before.
        position: how far it is recorded with this.
        chunks: output.
        changes: at most one of each command.
    """

    host: str
    journal: str
    begin: int
    position: int
    chunks: list[Chunk] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


_OUTCOME_NAMES = Outcome._fields
_NEW_NAMES = [f"new_{name}" for name in _OUTCOME_NAMES]
_INSERT_CHUNK = Prepared(insert(output), Chunk.__slots__)
_CHANGE = Prepared(
    update(commands)
    .where(
        commands.c.number == bindparam("the_number"),
        commands.c.status == bindparam("before"),
    )
    .values(
        status=bindparam("after"), **{name: bindparam(f"new_{name}") for name in _OUTCOME_NAMES}
    ),
)
_GIVEN_BACK = (
    commands.c.number == bindparam("the_number"),
    commands.c.status == Status.QUEUED.value,
)
_WAITS_AGAIN = (
    update(commands)
    .where(*_GIVEN_BACK, commands.c.stop_signal.is_(None))
    .values(dispatched_to=None)
)
NEVER_STARTED = "stopped before it started"
_NEVER_STARTS = (
    update(commands)
    .where(*_GIVEN_BACK, commands.c.stop_signal.is_not(None))
    .values(
        status=Status.STOPPED.value,
        reason=NEVER_STARTED,
        finished_at=bindparam("at"),
    )
)
_POSITION = Prepared(
    update(hosts)
    .where(
        hosts.c.name == bindparam("the_name"),
        hosts.c.journal == bindparam("the_journal"),
        hosts.c.journal_position == bindparam("old_position"),
    )
    .values(journal_position=bindparam("new_position")),
)


def record(connection: Connection, items: list[Recording]) -> list[set[int]]:
    """Store parts of journals, each whole or, with an exception, nothing of the transaction.

    A part that is stored already stays as it is.

    Returns:
        For each the numbers of commands that were given back and are stopped, not waiting.

    Raises:
        RecordingConflictError: a command's status is not the one the recorder knew.
        OtherDatabaseError: the part before it is not stored.
    """
    return [_record(connection, item) for item in items]


def _record(connection: Connection, item: Recording) -> set[int]:
    if _advance(connection, item):
        _write(connection, item)
    given_back = {change.number: change.given_back_at for change in item.changes}
    return _stopped(connection, {n: at for n, at in given_back.items() if at is not None})


def _write(connection: Connection, item: Recording) -> None:
    if item.chunks:
        _INSERT_CHUNK.execute(connection, [_chunk_row(chunk) for chunk in item.chunks])
    changed = [change for change in item.changes if change.given_back_at is None]
    if changed:
        done = _CHANGE.execute(connection, [_change_row(change) for change in changed])
        if done != len(changed):
            message = f"{len(changed)} commands were to change, {done} did"
            raise RecordingConflictError(message)
    for change in item.changes:
        if change.given_back_at is not None:
            connection.execute(_WAITS_AGAIN, {"the_number": change.number})
            connection.execute(
                _NEVER_STARTS, {"the_number": change.number, "at": change.given_back_at}
            )


def _stopped(connection: Connection, given_back: dict[int, int]) -> set[int]:
    """Return which of the commands that were given back at these times do not wait again."""
    if not given_back:
        return set()
    query = select(commands.c.number, commands.c.finished_at).where(
        commands.c.number.in_(given_back), commands.c.status == Status.STOPPED.value
    )
    return {
        row.number for row in connection.execute(query) if row.finished_at == given_back[row.number]
    }


def _advance(connection: Connection, item: Recording) -> bool:
    """Note how far a journal is recorded; return False if it was so already.

    Raises:
        OtherDatabaseError: the part before is not stored.
    """
    values = {
        "the_name": item.host,
        "the_journal": item.journal,
        "old_position": item.begin,
        "new_position": item.position,
    }
    if _POSITION.execute(connection, [values]) == 1:
        return True
    query = select(hosts.c.journal_position).where(
        hosts.c.name == item.host, hosts.c.journal == item.journal
    )
    stored: int | None = connection.execute(query).scalar()
    if stored == item.position:
        return False
    message = f"cannot record from {item.begin} on: the database has recorded up to {stored}"
    raise OtherDatabaseError(message)


def _chunk_row(chunk: Chunk) -> dict[str, Any]:
    return {name: getattr(chunk, name) for name in Chunk.__slots__}


def _change_row(change: Change) -> dict[str, Any]:
    values = dict(zip(_NEW_NAMES, change.outcome, strict=True))
    values["the_number"] = change.number
    values["before"] = change.before.value
    values["after"] = change.after.value
    return values
