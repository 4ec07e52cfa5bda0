"""Lists of commands: every filter, newest first, in steps that each cost little.

A list with one filter goes down that filter's index and stops at the limit of the page: the first
page costs what the last one does. With several filters one of them *leads*: the walk goes down its
index, and the others are looked up for each command that it meets. That may be a long walk to few
commands, so it is made in windows of so many commands as take `time_slice.STEP_SECONDS`, and ends
with its time slice wherever it is then: the page is short, and the next one goes on from there.
"""

from dataclasses import dataclass
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, Select, select, union_all

from scriptservice.model import Command, Filter
from scriptservice.store.queries.command_rows import ITEM, THERE, command_of
from scriptservice.store.queries.listing.filters import (
    Lead,
    all_commands,
    leads_of,
    matches_nothing,
)
from scriptservice.store.queries.listing.time_slice import STEP_SECONDS, TimeSlice, giving_way
from scriptservice.store.queries.listing.walks import Window, walk

FIRST_WINDOW = 64
"""Commands of a walk's first window: what they cost tells how many the next may have."""

LARGEST_WINDOW = 1 << 20


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list.

    Attributes:
        items: the commands, newest first, as lists have them; perhaps none.
        before: the next page has those with a smaller number; None if there are no more.
    """

    items: list[Command]
    before: int | None


def is_cheap(wanted: Filter) -> bool:
    """Whether a page costs the same however many commands there are.

    It has no filter, or one that an index answers alone.
    """
    if wanted.text is not None or _has_times(wanted):
        return False
    given = len(wanted.labels) + bool(wanted.statuses)
    return given + (wanted.host is not None) + (wanted.id_part is not None) <= 1


def _has_times(wanted: Filter) -> bool:
    return wanted.created_after is not None or wanted.created_before is not None


def page(
    connection: Connection,
    wanted: Filter,
    limit: int,
    before: int | None,
    time_slice: TimeSlice | None = None,
) -> Page:
    """Return commands, newest first, without their scripts, arguments and environments.

    Args:
        connection: to read from.
        wanted: which.
        limit: at most so many.
        before: only those with a smaller number; None from the newest on.
        time_slice: ends the page before it is full; None for no end.
    """
    if matches_nothing(wanted):
        return Page([], None)
    if is_cheap(wanted) and wanted.id_part is None:
        return _cut(_one_filter(connection, wanted, limit + 1, before), limit, None)
    return _in_steps(connection, wanted, limit, before, time_slice or TimeSlice())


def _in_steps(
    connection: Connection, wanted: Filter, limit: int, before: int | None, time_slice: TimeSlice
) -> Page:
    found: list[Command] = []
    size = FIRST_WINDOW
    began = perf_counter()
    going = walk(connection, wanted, before)
    while True:
        window = going.window(connection, size)
        # One more than the page has tells whether another page follows.
        found += _read(connection, window, limit + 1 - len(found))
        if len(found) > limit or window.last:
            return _cut(found, limit, None)
        took = max(perf_counter() - began, 1e-6)
        if not time_slice.worked(took):
            return _cut(found, limit, window.low)
        size = _next_size(size, took, time_slice.left_seconds)
        began = perf_counter()


def _next_size(size: int, took: float, left_seconds: float) -> int:
    """Return how many commands the next window may have, to take a step and fit into the slice."""
    wanted = min(STEP_SECONDS, left_seconds) / took
    return max(1, min(LARGEST_WINDOW, int(size * min(8.0, wanted))))


def _cut(found: list[Command], limit: int, before: int | None) -> Page:
    """Return a page of what was found, which may be one command more than the page has."""
    if len(found) > limit:
        return Page(found[:limit], found[limit - 1].number)
    return Page(found, before)


def _read(connection: Connection, window: Window, limit: int) -> list[Command]:
    query: Select[Any] = (
        select(*ITEM)
        .select_from(window.source)
        .where(*window.conditions, THERE)
        .order_by(window.order.desc())
        .limit(limit)
    )
    return [command_of(row) for row in giving_way(connection.execute(query))]


def _one_filter(
    connection: Connection, wanted: Filter, limit: int, before: int | None
) -> list[Command]:
    lead = next(leads_of(wanted), None) or all_commands(wanted)
    older = [] if before is None else [lead.order < before]
    window = Window(lead.source, lead.order, [*lead.conditions, *older], 0, last=True)
    if len(lead.streams) > 1:
        numbers = _newest_of_each(connection, lead, limit, before)
        window = Window(lead.source, lead.order, [lead.order.in_(numbers)], 0, last=True)
    return _read(connection, window, limit)


def _newest_of_each(
    connection: Connection, lead: Lead, limit: int, before: int | None
) -> list[int]:
    """Return the numbers of a page of several statuses, from the newest of each.

    The index has those of one status in order. With several at once a database would sort all.
    """
    older = [] if before is None else [lead.order < before]
    each = [
        select(lead.order)
        .where(*stream, *older, THERE)
        .order_by(lead.order.desc())
        .limit(limit)
        .subquery()
        for stream in lead.streams
    ]
    every = union_all(*(select(some.c.number) for some in each)).subquery()
    newest = select(every.c.number).order_by(every.c.number.desc()).limit(limit)
    return list(connection.execute(newest).scalars())
