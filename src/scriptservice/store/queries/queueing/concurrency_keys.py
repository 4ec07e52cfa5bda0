"""Concurrency keys: how many commands of a key count, and whether a further one may start.

A command counts from its dispatch mark until its status is final. Whatever needs the number of
commands that count derives it from the rows, in the transaction that stores the next dispatch mark.
No counter is kept anywhere, so no crash can make the number wrong.

Several servers may write to one PostgreSQL database. At the isolation level READ COMMITTED, two
transactions could both find a key free. So each transaction that stores a mark of a key first takes
a lock of that key, which it holds until its end. On SQLite the whole transaction is exclusive.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, bindparam, func, select, update

from scriptservice.errors import BusyError
from scriptservice.model import Concurrency, Status, WhenBusy
from scriptservice.store.database.tables import IS_OPEN_WITH_KEY, commands, inputs

COUNTS = (IS_OPEN_WITH_KEY, commands.c.dispatched_to.is_not(None))
"""The conditions under which a command counts. The index `commands_counted_by_key` has its row."""

WAITS = (IS_OPEN_WITH_KEY, commands.c.dispatched_to.is_(None))
"""The conditions under which a command with a key waits in the database. The index
`commands_waiting_by_key` has its row."""

REPLACING_SIGNAL = "SIGTERM"


def replaced_reason(command_id: UUID) -> str:
    """Return the reason of a command that was stopped for another command of its key.

    Args:
        command_id: id of the other command.
    """
    return f"it was replaced by command {command_id}"


def lock_keys(connection: Connection, keys: Iterable[str]) -> None:
    """Let no other transaction store dispatch marks of some keys until this transaction ends.

    Call this before the number of commands that count is read. All locks are taken in one order, so
    two transactions with several keys cannot wait for each other. If a transaction calls this
    function more than once, the database may find a deadlock. It then ends one of the transactions,
    and the writer repeats each of its jobs alone.
    """
    if connection.dialect.name != "postgresql":
        return
    locks = sorted({_lock_number(key) for key in keys})
    # The function is called in the order of the array.
    statement = "SELECT pg_advisory_xact_lock(number) FROM unnest(%s::bigint[]) AS number"
    connection.exec_driver_sql(statement, (locks,))


def _lock_number(key: str) -> int:
    digest = hashlib.sha256(b"scriptservice concurrency key\0" + key.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@dataclass(slots=True)
class KeyUse:
    """How a concurrency key is used at this moment of a transaction.

    Attributes:
        counted: number of the key's commands that count.
        limit: the smallest limit of these commands; None if there are none.
    """

    counted: int = 0
    limit: int | None = None

    def smallest(self, limit: int) -> int:
        """Return the smallest limit of the commands that count and of another command."""
        return limit if self.limit is None else min(self.limit, limit)

    def admits(self, limit: int) -> bool:
        """Return whether another command, which has its own limit, may count too."""
        return self.counted < self.smallest(limit)

    def add(self, limit: int) -> None:
        """Count another command."""
        self.limit = self.smallest(limit)
        self.counted += 1


def key_uses(connection: Connection, keys: Iterable[str]) -> dict[str, KeyUse]:
    """Return how each of some keys is used now.

    Args:
        connection: connection to read from.
        keys: the keys, at least one.
    """
    found = {key: KeyUse() for key in keys}
    query = (
        select(
            commands.c.concurrency_key,
            func.count().label("counted"),
            func.min(commands.c.concurrency_limit).label("smallest"),
        )
        .where(*COUNTS, commands.c.concurrency_key.in_(found))
        .group_by(commands.c.concurrency_key)
    )
    for row in connection.execute(query):
        found[row.concurrency_key] = KeyUse(row.counted, row.smallest)
    return found


def counted_numbers(connection: Connection, numbers: Iterable[int]) -> set[int]:
    """Return which of some commands have a dispatch mark."""
    query = select(commands.c.number).where(
        commands.c.number.in_(numbers), commands.c.dispatched_to.is_not(None)
    )
    return set(connection.execute(query).scalars())


class StoppedHolder(NamedTuple):
    """A command that counts and for which a stop was just requested.

    Attributes:
        id: id of the command.
        grace_seconds: time between the signal and SIGKILL.
    """

    id: UUID
    grace_seconds: float


@dataclass(frozen=True, slots=True)
class Admission:
    """The decision about a new command that has a concurrency key.

    Attributes:
        marked: whether the command gets its dispatch mark at once.
        key_is_free: whether the key would let the command start.
        ended: ids of waiting commands that became stopped, because the command replaces them.
        stopping: the commands for which a stop was requested, because the command replaces them.
    """

    marked: bool
    key_is_free: bool
    ended: tuple[UUID, ...] = ()
    stopping: tuple[StoppedHolder, ...] = ()


def admit(
    connection: Connection, wanted: Concurrency, command_id: UUID, at: int, *, at_once: bool
) -> Admission | BusyError:
    """Decide about a new command with a key, and request the stops that it causes.

    The caller must have locked the key, and must store the command in the same transaction.

    Args:
        connection: connection to write to.
        wanted: the key, and what to do if it is busy.
        command_id: id of the new command.
        at: time of its submission, in microseconds since 1970 UTC.
        at_once: whether the command may start at once apart from its key.

    Returns:
        The decision, or the error if the command is refused.
    """
    key = wanted.key
    use = key_uses(connection, [key])[key]
    if wanted.when_busy is WhenBusy.REJECT and (limit := _limit_reached(connection, wanted, use)):
        return BusyError(key, limit)
    ended: tuple[UUID, ...] = ()
    stopping: tuple[StoppedHolder, ...] = ()
    if wanted.when_busy is WhenBusy.REPLACE:
        reason = replaced_reason(command_id)
        ended = _stop_waiting(connection, key, reason, at)
        if not use.admits(wanted.limit):
            stopping = _stop_oldest(connection, wanted, reason)
    # Within a key the commands start in order. So a command that waits already goes first, even if
    # it waits because its own limit is smaller.
    is_next = not _waiting_limits(connection, key, 1)
    key_is_free = is_next and use.admits(wanted.limit)
    return Admission(at_once and key_is_free, key_is_free, ended, stopping)


def _limit_reached(connection: Connection, wanted: Concurrency, use: KeyUse) -> int | None:
    """Return the limit that the key has reached, counting the commands that wait; else None."""
    waiting = _waiting_limits(connection, wanted.key, wanted.limit)
    smallest = min([use.smallest(wanted.limit), *waiting[:1]])
    return smallest if use.counted + len(waiting) >= smallest else None


def _waiting_limits(connection: Connection, key: str, most: int) -> list[int]:
    """Return the limits of commands that wait for a key, smallest first.

    Args:
        connection: connection to read from.
        key: the key.
        most: maximum number of commands to read.
    """
    query = (
        select(commands.c.concurrency_limit)
        .where(*WAITS, commands.c.concurrency_key == key)
        .order_by(commands.c.concurrency_limit)
        .limit(most)
    )
    return list(connection.execute(query).scalars())


def _stop_waiting(connection: Connection, key: str, reason: str, at: int) -> tuple[UUID, ...]:
    """Stop all commands that wait for a key; return their ids."""
    statement = (
        update(commands)
        .where(*WAITS, commands.c.concurrency_key == key)
        .values(status=Status.STOPPED.value, reason=reason, finished_at=at)
        .returning(commands.c.id)
    )
    return tuple(connection.execute(statement).scalars())


def _stop_oldest(
    connection: Connection, wanted: Concurrency, reason: str
) -> tuple[StoppedHolder, ...]:
    """Request stops of the oldest commands that count, so that another one can start afterwards.

    Commands whose stop was requested before are not counted: they end anyway.
    """
    query = (
        select(
            commands.c.number, commands.c.id, commands.c.concurrency_limit, inputs.c.grace_seconds
        )
        .select_from(commands.join(inputs, commands.c.number == inputs.c.number))
        .where(*COUNTS, commands.c.concurrency_key == wanted.key, commands.c.stop_signal.is_(None))
        .order_by(commands.c.number)
    )
    stay = list(connection.execute(query))
    limits = [wanted.limit]
    for row in reversed(stay):
        limits.append(min(limits[-1], row.concurrency_limit))
    # limits[n] is the smallest limit if the n newest commands stay, together with the new one.
    remain = max(n for n, limit in enumerate(limits) if n == 0 or n + 1 <= limit)
    oldest = stay[: len(stay) - remain]
    if oldest:
        statement = (
            update(commands)
            .where(commands.c.number == bindparam("the_number"))
            .values(
                stop_signal=REPLACING_SIGNAL,
                stop_grace_seconds=bindparam("grace"),
                stop_reason=reason,
            )
        )
        rows = [{"the_number": row.number, "grace": row.grace_seconds} for row in oldest]
        connection.execute(statement, rows)
    return tuple(StoppedHolder(row.id, row.grace_seconds) for row in oldest)
