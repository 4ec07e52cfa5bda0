"""Walks through the numbers of commands, newest first, in windows of adjustable size.

A window is the range or the list of numbers that the walk looks at in one step. A walk returns the
conditions of each window, and `listing` reads the commands of the window. Before a walk begins,
`walk` counts how many commands each filter matches, to choose the leading filter.
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
    LeadingFilter,
    id_candidates,
    leading_filters,
    remaining_conditions,
    unfiltered,
)

MAX_COUNTED = 2000
"""At most this many matching commands are counted for each filter. The counts show which filter
matches the fewest commands."""

MAX_LISTED = 500
"""The text of one statement contains at most this many command numbers."""


@dataclass(frozen=True, slots=True)
class NumberWindow:
    """A part of a walk: a range or a list of numbers.

    Attributes:
        source: the tables to read.
        order: the column of ``source`` that has the commands' numbers.
        conditions: conditions that select the wanted commands of this part, and no other commands.
        low: lower bound of this part; the walk has not looked at smaller numbers yet.
        last: whether this is the last part, because no commands are left below ``low``.
    """

    source: FromClause
    order: Any
    conditions: list[Condition]
    low: int
    last: bool


class Walk(Protocol):
    """A walk through the commands that match a filter."""

    def window(self, connection: Connection, size: int) -> NumberWindow:
        """Return the next window.

        Args:
            connection: connection to read from.
            size: approximate number of commands to look at.
        """


def walk(connection: Connection, wanted: Filter, before: int | None) -> Walk:
    """Return the walk for a filter.

    Args:
        connection: connection that is used to count the matches of each filter.
        wanted: the filter.
        before: look only at smaller numbers than this; None to begin with the newest.
    """
    if wanted.id_part is not None:
        return _IdWalk(wanted.id_part, wanted, before)
    lead, numbers = choose_leading_filter(connection, wanted)
    if numbers is not None:
        older = sorted((each for each in numbers if before is None or each < before), reverse=True)
        return _ListWalk(lead.rest, older)
    return _IndexWalk(lead, before)


def choose_leading_filter(
    connection: Connection, wanted: Filter
) -> tuple[LeadingFilter, list[int] | None]:
    """Choose the filter that should lead a walk: the one that matches the fewest commands.

    A walk goes through all commands that the leading filter matches, and looks up the other filters
    for each of them. For example, a list wants the running commands with a common label. If the
    label led, the walk would go through all commands with that label to find the few running ones.

    Returns:
        The leading filter, and the numbers of all commands that it matches. The numbers are None if
        an index has these commands in the order of their numbers, because the walk then follows
        that index.
    """
    leads = list(leading_filters(wanted))
    if len(leads) == 1 and leads[0].ordered_parts:
        return leads[0], None
    best, fewest, numbers = unfiltered(wanted), MAX_COUNTED + 1, None
    for lead in leads:
        found = _some_numbers(connection, lead)
        # A filter without an ordered index can lead only if `found` has the numbers of all its
        # commands. If the count reached `MAX_COUNTED`, some of these numbers may be missing.
        if len(found) < fewest and (lead.ordered_parts or len(found) < MAX_COUNTED):
            best, fewest, numbers = lead, len(found), None if lead.ordered_parts else found
    return best, numbers


def _some_numbers(connection: Connection, lead: LeadingFilter) -> list[int]:
    return list(connection.execute(lead.numbers.limit(MAX_COUNTED)).scalars())


class _IndexWalk:
    """A walk along the index of a filter, or along all numbers.

    Args:
        lead: the leading filter.
        before: look only at smaller numbers than this; None to begin with the newest.
    """

    def __init__(self, lead: LeadingFilter, before: int | None) -> None:
        self._lead = lead
        self._before = before

    def window(self, connection: Connection, size: int) -> NumberWindow:
        """See `Walk`."""
        lead, order = self._lead, self._lead.order
        if lead.ordered_parts == ((),):
            low = self._newest(connection) - size
        else:
            # If the filter has several parts, the window has at most `size` commands of each part.
            low = max(self._last_of(connection, part, size) for part in lead.ordered_parts)
        conditions = [*remaining_conditions(lead.rest), order >= low]
        if self._before is not None:
            conditions.append(order < self._before)
        conditions += lead.conditions
        self._before = low
        return NumberWindow(lead.source, order, conditions, low, last=low <= 1)

    def _newest(self, connection: Connection) -> int:
        if self._before is None:
            self._before = (connection.execute(_NEWEST).scalar() or 0) + 1
        return self._before

    def _last_of(self, connection: Connection, part: Iterable[Condition], size: int) -> int:
        """Return the number of the ``size``-th next command of a part; 0 if fewer are left."""
        order = self._lead.order
        query: Select[Any] = select(order).where(*part)
        if self._before is not None:
            query = query.where(order < self._before)
        query = query.order_by(order.desc()).offset(size - 1).limit(1)
        return connection.execute(query).scalar() or 0


_NEWEST = select(func.max(commands.c.number))


class _ListWalk:
    """A walk through a list of numbers.

    Args:
        rest: the filters to look up for each command.
        numbers: the numbers of all commands that the leading filter matches, the largest first.
    """

    def __init__(self, rest: Filter, numbers: list[int]) -> None:
        self._rest = rest
        self._numbers = numbers

    def window(self, connection: Connection, size: int) -> NumberWindow:  # noqa: ARG002
        """See `Walk`."""
        some = self._numbers[: min(size, MAX_LISTED)]
        self._numbers = self._numbers[len(some) :]
        return _window_of_numbers(self._rest, some, last=not self._numbers)


class _IdWalk:
    """A walk through commands whose ids begin or end with a text.

    Usually only few commands match. An id begins with the time when it was made: all ids with the
    same first eight characters were made within about one minute.

    Args:
        part: the text.
        rest: the filters to look up for each command.
        before: look only at smaller numbers than this; None to begin with the newest.
    """

    def __init__(self, part: str, rest: Filter, before: int | None) -> None:
        self._part = part
        self._rest = rest
        self._before = before

    def window(self, connection: Connection, size: int) -> NumberWindow:
        """See `Walk`."""
        size = min(size, MAX_LISTED)
        found: set[int] = set()
        seen: list[int] = []
        for candidates in id_candidates(self._part, self._before, size):
            rows = connection.execute(candidates).all()
            found |= {row.number for row in rows if self._has_part(str(row.id))}
            if len(rows) == size:
                seen.append(rows[-1].number)
        # A query that reached its limit may have missed commands below its last number. So the
        # results of all queries are complete only down to the largest of these last numbers.
        low = max(seen, default=0)
        some = sorted((number for number in found if number >= low), reverse=True)
        self._before = low
        window = _window_of_numbers(self._rest, some, last=not seen)
        return NumberWindow(window.source, window.order, window.conditions, low, window.last)

    def _has_part(self, text: str) -> bool:
        return text.startswith(self._part) or text.endswith(self._part)


def _window_of_numbers(rest: Filter, numbers: list[int], *, last: bool) -> NumberWindow:
    number = commands.c.number
    low = numbers[-1] if numbers else 0
    return NumberWindow(
        JOINED, number, [number.in_(numbers), *remaining_conditions(rest)], low, last
    )
