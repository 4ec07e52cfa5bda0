"""Dispatching: which keeper gets a command, and which commands are open.

The module also ends commands whose end is not recorded in any journal. Functions that take a list
of items are jobs of the writer. `mark_restored` is a part of such a job. All other functions are
for readers. Each change of a command's status is one UPDATE. The condition of the UPDATE
excludes every command whose present status does not allow the change.
"""

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
    select,
    update,
)

from scriptservice.model import OPEN, Concurrency, Outcome, Status, predecessors
from scriptservice.store.database.tables import commands, inputs
from scriptservice.store.queries.command_rows import JOINED, OUTCOME, THERE
from scriptservice.store.queries.queueing.concurrency_keys import (
    KeyUse,
    counted_numbers,
    key_uses,
    lock_keys,
)
from scriptservice.store.queries.queueing.waiting_commands import IS_WAITING

STOPPED_BEFORE_START = "stopped before it started"
"""``reason`` of a command that was stopped before it ran."""

MAX_COUNTED = 100_000
"""The number at which `count_waiting` stops counting, so that it never reads millions of rows each
time the metrics are scraped.
"""


def count_waiting(connection: Connection) -> int:
    """Return how many commands wait in the database, but at most `MAX_COUNTED`.

    The query uses an index of statuses. It takes 40 to 60 ms if 100,000 commands wait, and 2 ms if
    300 commands wait among 300,000 others.
    """
    some = select(commands.c.number).where(*IS_WAITING).limit(MAX_COUNTED).subquery()
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


def count_interactive(connection: Connection, most: int) -> int:
    """Return how many interactive commands are not finished, but at most ``most``."""
    some = (
        select(commands.c.number)
        .where(commands.c.status.in_([status.value for status in OPEN]), commands.c.interactive)
        .limit(most)
        .subquery()
    )
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


@dataclass(frozen=True, slots=True)
class DispatchMark:
    """The dispatch mark of a command; the mark says which keeper gets the command.

    Attributes:
        number: number of the command.
        host: name of the keeper's host.
        keeper: identity of the keeper.
        concurrency: the command's concurrency key; None if it has none.
    """

    number: int
    host: str
    keeper: str
    concurrency: Concurrency | None = None


_MARK = (
    update(commands)
    .where(
        commands.c.number == bindparam("the_number"),
        commands.c.status == Status.QUEUED.value,
        commands.c.dispatched_to.is_(None) | (commands.c.dispatched_to == bindparam("keeper")),
        THERE,
    )
    .values(dispatched_to=bindparam("keeper"), host=bindparam("on_host"))
)


def mark_dispatched(connection: Connection, items: list[DispatchMark]) -> list[bool]:
    """Store dispatch marks of queued commands; return for each item whether its mark is stored.

    A command with a concurrency key gets its mark only if the key is free.

    The dispatcher does not pick a marked command again. So if a command already has this mark, an
    earlier call stored the mark, and the answer to that commit was lost. Even if such a command
    were sent to the keeper twice, the keeper would refuse the command's id the second time.
    """
    keyed = {item.number: item.concurrency.key for item in items if item.concurrency is not None}
    uses: dict[str, KeyUse] = {}
    counted: set[int] = set()
    if keyed:
        lock_keys(connection, keyed.values())
        uses = key_uses(connection, keyed.values())
        # If the answer to an earlier commit was lost, some of these commands count already.
        counted = counted_numbers(connection, keyed)
    return [
        _mark(connection, item)
        if item.concurrency is None or item.number in counted
        else _mark_if_key_is_free(connection, item, item.concurrency, uses)
        for item in items
    ]


def _mark(connection: Connection, item: DispatchMark) -> bool:
    values = {"the_number": item.number, "keeper": item.keeper, "on_host": item.host}
    return connection.execute(_MARK, values).rowcount == 1


def _mark_if_key_is_free(
    connection: Connection, item: DispatchMark, wanted: Concurrency, uses: dict[str, KeyUse]
) -> bool:
    use = uses[wanted.key]
    if not use.admits(wanted.limit) or not _mark(connection, item):
        return False
    use.add(wanted.limit)
    return True


@dataclass(frozen=True, slots=True)
class OpenCommand:
    """The fields of a command that the fleet needs; usually the command's status is not final.

    Attributes:
        number: number of the command.
        id: id of the command.
        status: status of the command.
        outcome: what is stored about the command's run so far.
        dispatched_to: identity of the keeper that gets the command; None if the command waits in
            the database; `RESTORED` in a restored database.
        stop_signal: signal of a requested stop; None if no stop was requested.
        stop_grace_seconds: time between that signal and SIGKILL; None if no stop was requested.
        stop_reason: reason of the command if it becomes stopped; None for the usual reason.
        concurrency_key: the command's concurrency key; None if it has none.
        created_at: time of submission, in microseconds since 1970 UTC.
        queue_timeout_seconds: how long the command may wait; None for no limit.
    """

    number: int
    id: UUID
    status: Status
    outcome: Outcome
    dispatched_to: str | None
    stop_signal: str | None
    stop_grace_seconds: float | None
    stop_reason: str | None
    concurrency_key: str | None
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
    commands.c.stop_reason,
    commands.c.concurrency_key,
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
        stop_reason=row.stop_reason,
        concurrency_key=row.concurrency_key,
        created_at=row.created_at,
        queue_timeout_seconds=row.queue_timeout_seconds,
    )


@dataclass(frozen=True, slots=True)
class PageStart:
    """Where a page of open commands begins.

    Attributes:
        status: all commands of the page have this status.
        number: all commands of the page have larger numbers than this.
    """

    status: Status
    number: int


FIRST_PAGE = PageStart(Status.QUEUED, 0)
PAGE_COMMANDS = 5000
"""The number of commands that are read for a page of open commands. On a busy machine reading a
page takes 0.3 s if all its commands were dispatched. It takes 12 ms if none was dispatched or has a
queue time-out.
"""

_OPEN_STATUSES = (Status.QUEUED, Status.RUNNING, Status.STOPPING)
"""The open statuses in the order in which a command goes through them."""


@dataclass(frozen=True, slots=True)
class OpenPage:
    """A page of commands that are not final.

    Attributes:
        commands: the commands of the page that were dispatched or have a queue time-out.
        next_start: where the next page begins; None after the last page.
    """

    commands: list[OpenCommand]
    next_start: PageStart | None


def open_commands(connection: Connection, start: PageStart) -> OpenPage:
    """Return a page of commands that are not final.

    The page leaves out commands that were not dispatched and have no queue time-out. The caller
    reads one page after another, from `FIRST_PAGE` on. Meanwhile a command may change its status.
    The pages are in the order in which a command goes through the statuses, so they miss no command
    that stays open. But a command whose status changes may be on two pages.
    """
    some = (
        select(commands.c.number)
        .where(commands.c.status == start.status.value, commands.c.number > start.number)
        .order_by(commands.c.number)
        .limit(PAGE_COMMANDS)
    )
    numbers = list(connection.execute(some).scalars())
    if len(numbers) == PAGE_COMMANDS:
        next_start: PageStart | None = PageStart(start.status, numbers[-1])
    else:
        later = _OPEN_STATUSES[_OPEN_STATUSES.index(start.status) + 1 :]
        next_start = PageStart(later[0], 0) if later else None
    if not numbers:
        return OpenPage([], next_start)
    query = (
        select(*_OPEN_COLUMNS)
        .select_from(JOINED)
        .where(
            commands.c.status == start.status.value,
            commands.c.number > start.number,
            commands.c.number <= numbers[-1],
            commands.c.dispatched_to.is_not(None) | inputs.c.queue_timeout_seconds.is_not(None),
        )
        .order_by(commands.c.number)
    )
    return OpenPage([_open_command(row) for row in connection.execute(query)], next_start)


def find_by_ids(connection: Connection, ids: Sequence[UUID]) -> list[OpenCommand]:
    """Return the commands that have these ids, whatever their status."""
    query = select(*_OPEN_COLUMNS).select_from(JOINED).where(commands.c.id.in_(ids))
    return [_open_command(row) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a command that never started, or whose end nobody observed.

    Attributes:
        number: number of the command.
        status: its final status.
        reason: why the command ended, in one plain sentence.
        at: time of the end, in microseconds since 1970 UTC.
    """

    number: int
    status: Status
    reason: str
    at: int


def end_unstarted(connection: Connection, items: list[Ending]) -> list[bool]:
    """End queued commands that have no dispatch mark.

    Returns:
        One bool for each item: True if the command was ended, False if the command has a dispatch
        mark or is no longer queued.
    """
    waits = (commands.c.status == Status.QUEUED.value) & commands.c.dispatched_to.is_(None)
    return [_end(connection, item, waits) for item in items]


def end_unknown(connection: Connection, items: list[Ending]) -> list[bool]:
    """End commands whose end is not recorded in any journal.

    The final status of such a command is ``lost``, or follows from the command's recorded exit.

    Returns:
        One bool for each item: True if the command was ended, False if it had ended before.
    """
    return [_end(connection, item, _may_become(item.status)) for item in items]


def _may_become(after: Status) -> ColumnElement[bool]:
    return commands.c.status.in_([status.value for status in predecessors(after)])


def _end(connection: Connection, item: Ending, allowed: ColumnElement[bool]) -> bool:
    """Give a command its final status.

    Args:
        connection: connection to write to.
        item: the command's number, its final status and the time.
        allowed: the condition under which the command may get this status.

    Returns:
        True if the command now has this status and this time. That is also the case if an earlier
        call with the same item has ended the command, in a commit whose answer was lost.
    """
    done = (commands.c.status == item.status.value) & (commands.c.finished_at == item.at)
    ended = connection.execute(
        update(commands)
        .where(commands.c.number == item.number, allowed | done)
        .values(status=item.status.value, reason=item.reason, finished_at=item.at)
    )
    return ended.rowcount == 1


RESTORED = "restored"
"""``dispatched_to`` of open commands in a restored database. Such a command may have run already,
so it must not start again.
"""


def mark_restored(connection: Connection, keeper: str, *, start_queued: bool) -> None:
    """Mark open commands as `RESTORED`, except those that the keeper runs now.

    The caller must store the takeover of the host in the same transaction. After a crash between
    two transactions, a command could start although it must not start.

    Args:
        connection: connection to write to.
        keeper: identity of the keeper.
        start_queued: True to leave out the commands that were queued and not dispatched at the time
            of the backup. These commands then go on waiting. This is right only if the
            administrator knows that these commands have not run since the backup.
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


@dataclass(frozen=True, slots=True)
class Requeue:
    """A request to requeue all commands that a keeper will never start.

    The service makes this request when the keeper shuts down, but not after the keeper was killed.

    Attributes:
        keeper: identity of the keeper.
        at: time of the request, in microseconds since 1970 UTC.
    """

    keeper: str
    at: int


def requeue_unstarted(connection: Connection, items: list[Requeue]) -> list[int]:
    """Requeue the commands that keepers will never start.

    If a stop of a command was requested, the command becomes stopped instead.

    Returns:
        For each item the number of commands that wait again.
    """
    counts = []
    for item in items:
        mine = (commands.c.status == Status.QUEUED.value, commands.c.dispatched_to == item.keeper)
        again = update(commands).where(*mine, commands.c.stop_signal.is_(None))
        counts.append(connection.execute(again.values(dispatched_to=None)).rowcount)
        connection.execute(
            update(commands)
            .where(*mine)
            .values(
                status=Status.STOPPED.value,
                reason=func.coalesce(commands.c.stop_reason, STOPPED_BEFORE_START),
                finished_at=item.at,
            )
        )
    return counts
