"""Lists of commands: all filters, newest first, in steps of bounded cost.

A list with one filter follows that filter's index and stops when the page is full: the first page
costs as much as the last one. If there are several filters, one of them *leads*: a walk follows the
index of the leading filter, and checks the other filters for each command that it meets. The walk
may be long and find little. Therefore the walk looks at a limited range of command numbers at a
time, called a window, and ends when its time slice is over. The size of each window is chosen so
that reading the window takes `time_slice.STEP_SECONDS`. If the time slice ends the walk, the page
has fewer commands than it could hold, and the next page continues where the walk ended.
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
from scriptservice.store.queries.queueing.waiting_commands import explain_waiting

FIRST_WINDOW = 64
"""Number of commands in a walk's first window. The time that a window takes determines the size of
the next window.
"""

LARGEST_WINDOW = 1 << 20


@dataclass(frozen=True, slots=True)
class CommandListing:
    """One page of a list.

    Attributes:
        items: the commands, newest first, with the fields that lists show; may be empty.
        before: the next page has only commands with smaller numbers than this. None if this is the
            last page.
    """

    items: list[Command]
    before: int | None


def is_cheap(wanted: Filter) -> bool:
    """Return whether a page takes the same time in a small and in a large database.

    This is true if there is no filter, or one filter for which an index is enough.
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
        before: return only commands with smaller numbers than this; None to begin with the newest.
        time_slice: the time that the work may use; when it is over, the page ends before it is
            full. None for no limit.

    Raises:
        StoreUnavailableError: the time slice was ended, because nobody waits for the page any more.
    """
    if matches_nothing(wanted):
        return CommandListing([], None)
    if is_cheap(wanted) and wanted.id_part is None:
        page = _page_of(_one_filter(connection, wanted, limit + 1, before), limit, None)
    else:
        page = _walk_in_steps(connection, wanted, limit, before, time_slice or TimeSlice())
    return CommandListing(explain_waiting(connection, page.items), page.before)


def _walk_in_steps(
    connection: Connection, wanted: Filter, limit: int, before: int | None, time_slice: TimeSlice
) -> CommandListing:
    found: list[Command] = []
    size = FIRST_WINDOW
    began = perf_counter()
    commands_walk = walk(connection, wanted, before)
    while True:
        window = commands_walk.window(connection, size)
        # Read up to one command more than the page holds. If that command is there, another page
        # follows.
        found += _read(connection, window, limit + 1 - len(found))
        if len(found) > limit or window.last:
            return _page_of(found, limit, None)
        took = max(perf_counter() - began, 1e-6)
        if not time_slice.spend(took):
            return _page_of(found, limit, window.low)
        size = _next_size(size, took, time_slice.left_seconds)
        began = perf_counter()


def _next_size(size: int, took: float, left_seconds: float) -> int:
    """Return the size of the next window, so that the window takes `STEP_SECONDS` or less.

    Args:
        size: size of the last window.
        took: seconds that the last window took.
        left_seconds: time that is left in the time slice; the window should not take longer.
    """
    wanted = min(STEP_SECONDS, left_seconds) / took
    return max(1, min(LARGEST_WINDOW, int(size * min(8.0, wanted))))


def _page_of(found: list[Command], limit: int, before: int | None) -> CommandListing:
    """Return a page of commands.

    Args:
        found: the commands that were found, newest first; at most one more than ``limit``.
        limit: maximum number of commands on the page.
        before: `CommandListing.before` if ``found`` fits on the page.
    """
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
    """Return the numbers of the commands on a page that shows several statuses.

    For each status, a subquery finds the newest commands, and the results are merged. In the index
    of statuses, the commands of each status are in the order of their numbers, so no subquery
    sorts. If one query selected several statuses, the database would sort all commands that have
    one of these statuses.
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
