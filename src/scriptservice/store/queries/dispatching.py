"""Which commands go where: waiting, marked, open, and those that end without a journal's word.

Functions that take a list of items are jobs of the writer; the others are for readers. Every
change of status is one UPDATE guarded by the statuses it may come from.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    bindparam,
    func,
    literal,
    select,
    update,
)

from scriptservice.model import OPEN, Command, Outcome, Status, sources
from scriptservice.store.database.tables import commands, inputs
from scriptservice.store.queries.command_rows import JOINED, OUTCOME, THERE, WHOLE, command_of

_WAITS = (
    # In the statement's text: with a parameter SQLite cannot know that the index of what waits
    # covers it, and would sort the whole queue for a few of it.
    commands.c.status == literal(Status.QUEUED.value, literal_execute=True),
    commands.c.dispatched_to.is_(None),
)


def waiting(connection: Connection, host: str, limit: int) -> list[Command]:
    """Return queued commands that were sent nowhere, in the order in which they are to start."""
    query = (
        select(*WHOLE)
        .select_from(JOINED)
        .where(
            *_WAITS,
            commands.c.stop_signal.is_(None),
            inputs.c.requested_host.is_(None) | (inputs.c.requested_host == host),
            THERE,
        )
        .order_by(commands.c.priority.desc(), commands.c.number)
        .limit(limit)
    )
    return [command_of(row) for row in connection.execute(query)]


COUNTED = 100_000
"""So many that wait are counted, and no more: a scrape must not read through millions."""


def count_waiting(connection: Connection) -> int:
    """Return how many commands wait in the database, at most `COUNTED`.

    By an index of statuses: 40 to 60 ms for 100,000 that wait, 2 ms for 300 among 300,000 others.
    """
    some = select(commands.c.number).where(*_WAITS).limit(COUNTED).subquery()
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark that a command goes to a keeper."""

    number: int
    host: str
    keeper: str


def mark_dispatched(connection: Connection, items: list[Mark]) -> list[bool]:
    """Mark queued commands as going to a keeper; return which are now marked as going there.

    One that has this mark already got it from a commit that nobody heard of: commands with a mark
    are not picked. The keeper would refuse an id twice.
    """
    statement = (
        update(commands)
        .where(
            commands.c.number == bindparam("the_number"),
            commands.c.status == Status.QUEUED.value,
            commands.c.dispatched_to.is_(None) | (commands.c.dispatched_to == bindparam("keeper")),
            THERE,
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
    *OUTCOME,
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
        outcome=Outcome(**{column.name: values[column.name] for column in OUTCOME}),
        dispatched_to=row.dispatched_to,
        stop_signal=row.stop_signal,
        stop_grace_seconds=row.stop_grace_seconds,
        created_at=row.created_at,
        queue_timeout_seconds=row.queue_timeout_seconds,
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of open commands begins: behind a number, among those of one status."""

    status: Status
    number: int


FIRST = Place(Status.QUEUED, 0)
PAGE = 5000
"""Short enough a read: 12 ms for those that just wait, 0.3 s on a busy machine if all were sent."""

_FORWARD = (Status.QUEUED, Status.RUNNING, Status.STOPPING)
"""The open statuses in the order in which a command may have them."""


@dataclass(frozen=True, slots=True)
class OpenPage:
    """Some of the commands that are not final.

    Attributes:
        commands: those of them that were sent somewhere, or that have a queue time-out.
        following: where the next page begins; None behind the last.
    """

    commands: list[OpenCommand]
    following: Place | None


def open_commands(connection: Connection, place: Place) -> OpenPage:
    """Return the next commands that are not final, but for those that just wait.

    Whoever reads page by page from `FIRST` on misses none that was open at the beginning and is
    so at the end: commands go through their statuses in the order in which they are read. One
    that goes on meanwhile may come twice.
    """
    some = (
        select(commands.c.number)
        .where(commands.c.status == place.status.value, commands.c.number > place.number)
        .order_by(commands.c.number)
        .limit(PAGE)
    )
    numbers = list(connection.execute(some).scalars())
    if len(numbers) == PAGE:
        following: Place | None = Place(place.status, numbers[-1])
    else:
        later = _FORWARD[_FORWARD.index(place.status) + 1 :]
        following = Place(later[0], 0) if later else None
    if not numbers:
        return OpenPage([], following)
    query = (
        select(*_OPEN_COLUMNS)
        .select_from(JOINED)
        .where(
            commands.c.status == place.status.value,
            commands.c.number > place.number,
            commands.c.number <= numbers[-1],
            commands.c.dispatched_to.is_not(None) | inputs.c.queue_timeout_seconds.is_not(None),
        )
        .order_by(commands.c.number)
    )
    return OpenPage([_open_command(row) for row in connection.execute(query)], following)


def by_ids(connection: Connection, ids: Sequence[UUID]) -> list[OpenCommand]:
    """Return those of these commands that exist, whatever their status."""
    query = select(*_OPEN_COLUMNS).select_from(JOINED).where(commands.c.id.in_(ids))
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
    """End queued commands that were sent nowhere; return which this did."""
    waits = (commands.c.status == Status.QUEUED.value) & commands.c.dispatched_to.is_(None)
    return [_end(connection, item, waits) for item in items]


def end_unknown(connection: Connection, items: list[Ending]) -> list[bool]:
    """End commands of whose end there is no record, as lost or by their exit.

    Returns:
        Which of them this did; the others had ended.
    """
    return [_end(connection, item, _may_become(item.status)) for item in items]


def _may_become(after: Status) -> ColumnElement[bool]:
    return commands.c.status.in_([status.value for status in sources(after)])


def _end(connection: Connection, item: Ending, allowed: ColumnElement[bool]) -> bool:
    """Give a command its final status where that is allowed, or was done by this very item."""
    done = (commands.c.status == item.status.value) & (commands.c.finished_at == item.at)
    ended = connection.execute(
        update(commands)
        .where(commands.c.number == item.number, allowed | done)
        .values(status=item.status.value, reason=item.reason, finished_at=item.at)
    )
    return ended.rowcount == 1


RESTORED = "restored"
"""``dispatched_to`` of what an older database may not start: it may have run already."""


def mark_restored(connection: Connection, keeper: str, *, start_queued: bool) -> None:
    """Mark all that is open as sent to nobody who could tell, but what a keeper runs now.

    In the transaction that takes the host over, so that no death in between lets it start.

    Args:
        connection: to write to.
        keeper: its identity.
        start_queued: let what was waiting, and sent nowhere when the copy was made, wait on:
            whoever says so knows that it has not run since.
    """
    mine = func.coalesce(commands.c.dispatched_to, "") == keeper
    goes_on = (commands.c.status != Status.QUEUED.value) & mine
    if start_queued:
        waits = (commands.c.status == Status.QUEUED.value) & commands.c.dispatched_to.is_(None)
        goes_on |= waits
    connection.execute(
        update(commands)
        .where(commands.c.status.in_([status.value for status in OPEN]), ~goes_on)
        .values(dispatched_to=RESTORED)
    )


def unmark(connection: Connection, items: list[str]) -> list[int]:
    """Let commands wait again that a keeper, which ends in order, will never start.

    Args:
        connection: to write to.
        items: identities of such keepers.

    Returns:
        How many wait again, for each.
    """
    counts = []
    for keeper in items:
        mine = (commands.c.status == Status.QUEUED.value, commands.c.dispatched_to == keeper)
        again = update(commands).where(*mine, commands.c.stop_signal.is_(None))
        counts.append(connection.execute(again.values(dispatched_to=None)).rowcount)
        connection.execute(
            update(commands)
            .where(*mine)
            .values(
                status=Status.STOPPED.value,
                reason="stopped before it started",
                finished_at=time.time_ns() // 1000,
            )
        )
    return counts
