"""Waiting commands: which of them may start next, and what each of them waits for.

A command waits while it is queued and has no dispatch mark. All functions are for readers.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, literal, or_, select

from scriptservice.model import Command, Status, WaitingFor
from scriptservice.store.database.tables import commands, hosts, inputs
from scriptservice.store.queries.command_rows import JOINED, THERE, WHOLE, command_of
from scriptservice.store.queries.queueing.concurrency_keys import COUNTS, WAITS, KeyUse, key_uses

IS_WAITING = (
    # The status is a literal in the statement's text. If it were a parameter, SQLite could not know
    # that the partial index `commands_waiting` covers the condition, and would sort the whole queue
    # to return a few rows.
    commands.c.status == literal(Status.QUEUED.value, literal_execute=True),
    commands.c.dispatched_to.is_(None),
)

_FULL_KEYS = (
    select(commands.c.concurrency_key)
    .where(*COUNTS)
    .group_by(commands.c.concurrency_key)
    .having(func.count() >= func.min(commands.c.concurrency_limit))
)
"""The keys that admit no further command, whatever its limit is. There are at most as many of them
as commands that count."""


@dataclass(frozen=True, slots=True)
class WaitingPick:
    """The commands that may start next.

    Attributes:
        commands: the commands, in the order in which they should start.
        is_blocked: whether a command is left that waits for its concurrency key; False if the pick
            has as many commands as it may have.
    """

    commands: list[Command]
    is_blocked: bool


def pick_waiting(connection: Connection, host: str, limit: int) -> WaitingPick:
    """Return waiting commands that may start now, in the order in which they should start.

    The commands are ordered by priority, then by submission. A command whose key is busy is left
    out, together with all later commands of its key, and does not hold up others.

    The transaction that stores the dispatch marks decides again about the keys.

    Args:
        connection: connection to read from.
        host: name of the host; commands that must run on another host are left out.
        limit: maximum number of commands.
    """
    numbers: list[int] = []
    uses: dict[str, KeyUse] = {}
    closed: set[str] = set()
    last: Row[Any] | None = None
    while len(numbers) < limit:
        rows = connection.execute(_next_waiting(host, limit - len(numbers), closed, last)).all()
        closed_before = len(closed)
        new_keys = {row.concurrency_key for row in rows} - {None} - set(uses)
        if new_keys:
            uses |= key_uses(connection, new_keys)
        numbers += [row.number for row in rows if _may_start(row, uses, closed)]
        if len(closed) == closed_before:
            break  # nothing was left out, so no other rows are missing
        last = rows[-1]
    is_blocked = len(numbers) < limit and _has_more_with_key(connection, numbers)
    return WaitingPick(_read_in_order(connection, numbers), is_blocked)


def _may_start(row: Row[Any], uses: dict[str, KeyUse], closed: set[str]) -> bool:
    """Return whether a command's key lets it start; if so, count the command."""
    key, limit = row.concurrency_key, row.concurrency_limit
    if key is None:
        return True
    if key in closed:
        return False
    if not uses[key].admits(limit):
        closed.add(key)
        return False
    uses[key].add(limit)
    return True


def _next_waiting(
    host: str, limit: int, closed: Collection[str], last: Row[Any] | None
) -> Select[Any]:
    """Return a query of the next waiting commands whose keys may have room.

    Args:
        host: see `pick_waiting`.
        limit: maximum number of rows.
        closed: keys to leave out, besides those that are full.
        last: the last row of the query before; None for the first query.
    """
    key = commands.c.concurrency_key
    open_keys = [key.not_in(_FULL_KEYS)]
    if closed:
        open_keys.append(key.not_in(sorted(closed)))
    query = (
        select(
            commands.c.number,
            commands.c.priority,
            commands.c.concurrency_key,
            commands.c.concurrency_limit,
        )
        .select_from(JOINED)
        .where(
            *IS_WAITING,
            # SQLite answers this condition from the index, so it skips ten thousand commands of a
            # full key in a few milliseconds.
            key.is_(None) | and_(*open_keys),
            commands.c.stop_signal.is_(None),
            inputs.c.requested_host.is_(None) | (inputs.c.requested_host == host),
            THERE,
        )
        .order_by(commands.c.priority.desc(), commands.c.number)
        .limit(limit)
    )
    if last is not None:
        same = (commands.c.priority == last.priority) & (commands.c.number > last.number)
        query = query.where(or_(commands.c.priority < last.priority, same))
    return query


def _has_more_with_key(connection: Connection, picked: Sequence[int]) -> bool:
    """Return whether a command with a key waits that was not picked."""
    some = select(commands.c.number).where(*WAITS).limit(len(picked) + 1)
    return not set(connection.execute(some).scalars()) <= set(picked)


def _read_in_order(connection: Connection, numbers: list[int]) -> list[Command]:
    if not numbers:
        return []
    query = select(*WHOLE).select_from(JOINED).where(commands.c.number.in_(numbers))
    found = {row.number: command_of(row) for row in connection.execute(query)}
    return [found[number] for number in numbers]


def explain_waiting(connection: Connection, found: list[Command]) -> list[Command]:
    """Return commands with what each of them waits for.

    This takes at most one query for all keys and one for all hosts, and none at all if no command
    waits that has a key or must run on a certain host.

    Args:
        connection: connection to read from; the commands were read in the same transaction.
        found: the commands; `Command.waiting_for` is set for those that wait.
    """
    keys = {
        command.submission.concurrency.key
        for command in found
        if command.waiting_for is not None and command.submission.concurrency is not None
    }
    named_hosts = {
        command.submission.host
        for command in found
        if command.waiting_for is not None and command.submission.host is not None
    }
    if not keys and not named_hosts:
        return found
    uses = key_uses(connection, keys) if keys else {}
    known = set()
    if named_hosts:
        query = select(hosts.c.name).where(hosts.c.name.in_(named_hosts))
        known = set(connection.execute(query).scalars())
    return [
        command
        if command.waiting_for is None
        else replace(command, waiting_for=_reason_to_wait(command, uses, known))
        for command in found
    ]


def _reason_to_wait(command: Command, uses: dict[str, KeyUse], known: set[str]) -> WaitingFor:
    submission = command.submission
    if submission.host is not None and submission.host not in known:
        return WaitingFor.HOST
    concurrency = submission.concurrency
    if concurrency is not None and not uses[concurrency.key].admits(concurrency.limit):
        return WaitingFor.CONCURRENCY
    return WaitingFor.CAPACITY
