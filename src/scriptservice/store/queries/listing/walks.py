"""Walks down the numbers of commands, newest first, in windows whose size is chosen on the way.

A window is told by conditions; `listing` reads it. Which filter leads a walk is decided once, by
counting what each lets through.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, FromClause, Select, func, select

from scriptservice.model import Filter
from scriptservice.store.database.tables import commands
from scriptservice.store.queries.command_rows import JOINED
from scriptservice.store.queries.listing.filters import (
    Condition,
    Lead,
    all_commands,
    id_candidates,
    leads_of,
    looked_up,
)

COUNTED = 2000
"""So many that a filter lets through are counted, to see which filter lets through fewest."""

LONGEST_LIST = 500
"""How many numbers one statement names."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a walk.

    Attributes:
        source: what is read.
        order: the column of it that has the commands' numbers.
        conditions: let through the commands of this part and no others.
        low: nothing below this number has been looked at.
        last: whether nothing is below it.
    """

    source: FromClause
    order: Any
    conditions: list[Condition]
    low: int
    last: bool


class Walk(Protocol):
    """Goes down the commands that a filter lets through."""

    def window(self, connection: Connection, size: int) -> Window:
        """Return the next part, with about so many commands to look at."""


def walk(connection: Connection, wanted: Filter, before: int | None) -> Walk:
    """Return the walk that a filter needs, from a number on down.

    Args:
        connection: to count with.
        wanted: the filter.
        before: only smaller numbers; None from the newest on.
    """
    if wanted.id_part is not None:
        return _IdWalk(wanted.id_part, wanted, before)
    lead, numbers = leading(connection, wanted)
    if numbers is not None:
        older = sorted((each for each in numbers if before is None or each < before), reverse=True)
        return _ListWalk(lead.rest, older)
    return _IndexWalk(lead, before)


def leading(connection: Connection, wanted: Filter) -> tuple[Lead, list[int] | None]:
    """Return the filter that lets through fewest, and the numbers where no index has their order.

    The others are looked up for each command: a common label would be gone through to its end
    for the few commands that run.
    """
    leads = list(leads_of(wanted))
    if len(leads) == 1 and leads[0].streams:
        return leads[0], None
    best, fewest, numbers = all_commands(wanted), COUNTED + 1, None
    for lead in leads:
        found = _some_numbers(connection, lead)
        # Without an order in an index, all have to be known.
        if len(found) < fewest and (lead.streams or len(found) < COUNTED):
            best, fewest, numbers = lead, len(found), None if lead.streams else found
    return best, numbers


def _some_numbers(connection: Connection, lead: Lead) -> list[int]:
    return list(connection.execute(lead.counted.limit(COUNTED)).scalars())


class _IndexWalk:
    """Down the index of a filter, or of all numbers.

    Args:
        lead: the filter.
        before: only smaller numbers; None from the newest on.
    """

    def __init__(self, lead: Lead, before: int | None) -> None:
        self._lead = lead
        self._before = before

    def window(self, connection: Connection, size: int) -> Window:
        """See `Walk`."""
        lead, order = self._lead, self._lead.order
        if lead.streams == ((),):
            low = self._newest(connection) - size
        else:
            # With several streams each has at most so many in the window.
            low = max(self._last_of(connection, stream, size) for stream in lead.streams)
        conditions = [*looked_up(lead.rest), order >= low]
        if self._before is not None:
            conditions.append(order < self._before)
        conditions += lead.conditions
        self._before = low
        return Window(lead.source, order, conditions, low, last=low <= 1)

    def _newest(self, connection: Connection) -> int:
        if self._before is None:
            self._before = (connection.execute(_NEWEST).scalar() or 0) + 1
        return self._before

    def _last_of(self, connection: Connection, stream: Iterable[Condition], size: int) -> int:
        """Return the number of the last of the next so many commands of a stream, 0 if fewer."""
        order = self._lead.order
        query: Select[Any] = select(order).where(*stream)
        if self._before is not None:
            query = query.where(order < self._before)
        query = query.order_by(order.desc()).offset(size - 1).limit(1)
        return connection.execute(query).scalar() or 0


_NEWEST = select(func.max(commands.c.number))


class _ListWalk:
    """Over numbers that are known.

    Args:
        rest: what is looked up.
        numbers: all of them, the largest first.
    """

    def __init__(self, rest: Filter, numbers: list[int]) -> None:
        self._rest = rest
        self._numbers = numbers

    def window(self, connection: Connection, size: int) -> Window:  # noqa: ARG002
        """See `Walk`."""
        some = self._numbers[: min(size, LONGEST_LIST)]
        self._numbers = self._numbers[len(some) :]
        return _named(self._rest, some, last=not self._numbers)


class _IdWalk:
    """Over commands whose ids begin or end with a text.

    There are few as a rule. An id begins with its time, so eight characters of its beginning are
    what was made in a minute.

    Args:
        part: the text.
        rest: what is looked up.
        before: only smaller numbers; None from the newest on.
    """

    def __init__(self, part: str, rest: Filter, before: int | None) -> None:
        self._part = part
        self._rest = rest
        self._before = before

    def window(self, connection: Connection, size: int) -> Window:
        """See `Walk`."""
        size = min(size, LONGEST_LIST)
        found: set[int] = set()
        seen: list[int] = []
        for candidates in id_candidates(self._part, self._before, size):
            rows = connection.execute(candidates).all()
            found |= {row.number for row in rows if self._has_part(str(row.id))}
            if len(rows) == size:
                seen.append(rows[-1].number)
        # Of what was cut off at different places only that counts which is above both.
        low = max(seen, default=0)
        some = sorted((number for number in found if number >= low), reverse=True)
        self._before = low
        window = _named(self._rest, some, last=not seen)
        return Window(window.source, window.order, window.conditions, low, window.last)

    def _has_part(self, text: str) -> bool:
        return text.startswith(self._part) or text.endswith(self._part)


def _named(rest: Filter, numbers: list[int], *, last: bool) -> Window:
    number = commands.c.number
    low = numbers[-1] if numbers else 0
    return Window(JOINED, number, [number.in_(numbers), *looked_up(rest)], low, last)
