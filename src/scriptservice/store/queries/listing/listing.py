"""Lists of commands: all filters, newest first, in steps of bounded cost.

A list with one filter follows that filter's index and stops when the page is full: the first page
costs as much as the last one. With several filters one of them *leads*: a walk follows its index
and looks up the others for each command that it meets. The walk may be long and find little.
Therefore it reads windows of numbers, each sized to take `time_slice.STEP_SECONDS`, and ends when
its time slice is over. The page is then short, and the next page continues from there.
"""

from dataclasses import dataclass
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, Select, select, union_all

from scriptservice.model import Command, Filter
from scriptservice.store.queries.command_rows import ITEM, THERE, command_of
from scriptservice.store.queries.listing.filters import (
    LeadingFilter,
    leading_filters,
    matches_nothing,
    unfiltered,
)
from scriptservice.store.queries.listing.time_slice import (
    STEP_SECONDS,
    TimeSlice,
    release_gil_between,
)
from scriptservice.store.queries.listing.walks import NumberWindow, walk

FIRST_WINDOW = 64
"""Number of commands in a walk's first window; its cost determines the size of the next one."""

LARGEST_WINDOW = 1 << 20


@dataclass(frozen=True, slots=True)
class CommandListing:
    """One page of a list.

    Attributes:
        items: the commands, newest first, with the fields that lists show; may be empty.
        before: the next page has commands with smaller numbers than this; None on the last page.
    """

    items: list[Command]
    before: int | None


def is_cheap(wanted: Filter) -> bool:
    """Return whether a page costs the same however many commands there are.

    That is so without a filter, and with one filter that an index answers alone.
    """
    if wanted.text is not None or _has_times(wanted):
        return False
    given = len(wanted.labels) + bool(wanted.statuses)
    return given + (wanted.host is not None) + (wanted.id_part is not None) <= 1


def _has_times(wanted: Filter) -> bool:
    return wanted.created_after is not None or wanted.created_before is not None


def list_commands(
    connection: Connection,
    wanted: Filter,
    limit: int,
    before: int | None,
    time_slice: TimeSlice | None = None,
) -> CommandListing:
    """Return a page of commands, newest first, without their scripts, arguments and environments.

    Args:
        connection: connection to read from.
        wanted: the filter.
        limit: maximum number of commands.
        before: only commands with smaller numbers; None to begin with the newest.
        time_slice: bounds the work, which may end the page before it is full; None for no bound.

    Raises:
        StoreUnavailableError: the time slice was ended, because its caller is gone.
    """
    if matches_nothing(wanted):
        return CommandListing([], None)
    if is_cheap(wanted) and wanted.id_part is None:
        return _page_of(_one_filter(connection, wanted, limit + 1, before), limit, None)
    return _walk_in_steps(connection, wanted, limit, before, time_slice or TimeSlice())


def _walk_in_steps(
    connection: Connection, wanted: Filter, limit: int, before: int | None, time_slice: TimeSlice
) -> CommandListing:
    found: list[Command] = []
    size = FIRST_WINDOW
    began = perf_counter()
    commands_walk = walk(connection, wanted, before)
    while True:
        window = commands_walk.window(connection, size)
        # One command more than the page holds tells whether another page follows.
        found += _read(connection, window, limit + 1 - len(found))
        if len(found) > limit or window.last:
            return _page_of(found, limit, None)
        took = max(perf_counter() - began, 1e-6)
        if not time_slice.spend(took):
            return _page_of(found, limit, window.low)
        size = _next_size(size, took, time_slice.left_seconds)
        began = perf_counter()


def _next_size(size: int, took: float, left_seconds: float) -> int:
    """Return the size of the next window, so that it takes one step and fits into the slice."""
    wanted = min(STEP_SECONDS, left_seconds) / took
    return max(1, min(LARGEST_WINDOW, int(size * min(8.0, wanted))))


def _page_of(found: list[Command], limit: int, before: int | None) -> CommandListing:
    """Return a page of the commands found, which may be one more than the page holds."""
    if len(found) > limit:
        return CommandListing(found[:limit], found[limit - 1].number)
    return CommandListing(found, before)


def _read(connection: Connection, window: NumberWindow, limit: int) -> list[Command]:
    query: Select[Any] = (
        select(*ITEM)
        .select_from(window.source)
        .where(*window.conditions, THERE)
        .order_by(window.order.desc())
        .limit(limit)
    )
    return [command_of(row) for row in release_gil_between(connection.execute(query))]


def _one_filter(
    connection: Connection, wanted: Filter, limit: int, before: int | None
) -> list[Command]:
    lead = next(leading_filters(wanted), None) or unfiltered(wanted)
    older = [] if before is None else [lead.order < before]
    window = NumberWindow(lead.source, lead.order, [*lead.conditions, *older], 0, last=True)
    if len(lead.ordered_parts) > 1:
        numbers = _newest_of_each(connection, lead, limit, before)
        window = NumberWindow(lead.source, lead.order, [lead.order.in_(numbers)], 0, last=True)
    return _read(connection, window, limit)


def _newest_of_each(
    connection: Connection, lead: LeadingFilter, limit: int, before: int | None
) -> list[int]:
    """Return the numbers of a page of several statuses, merged from the newest of each.

    The index has the commands of one status in order. For several statuses in one query the
    database would sort all of them.
    """
    older = [] if before is None else [lead.order < before]
    each = [
        select(lead.order)
        .where(*part, *older, THERE)
        .order_by(lead.order.desc())
        .limit(limit)
        .subquery()
        for part in lead.ordered_parts
    ]
    every = union_all(*(select(some.c.number) for some in each)).subquery()
    newest = select(every.c.number).order_by(every.c.number.desc()).limit(limit)
    return list(connection.execute(newest).scalars())
