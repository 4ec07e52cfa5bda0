"""Filters of lists as SQL conditions: the one that leads a walk, and those that are looked up.

Nothing here reads the database. `listing` and `walks` run what this module builds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    FromClause,
    Select,
    exists,
    literal_column,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from scriptservice.ids import id_ending, id_range
from scriptservice.model import Filter
from scriptservice.store.database.tables import ID_END_DIGITS, commands, id_end, inputs, labels
from scriptservice.store.queries.command_rows import JOINED

Condition = ColumnElement[bool]

MAX_LABELS = 64
"""The most labels that a command can have; a filter with more labels matches nothing."""


@dataclass(frozen=True, slots=True)
class LeadingFilter:
    """The filter whose index a walk follows, or no filter for all commands.

    Attributes:
        source: the tables to read: commands with their inputs, and labels if a label leads.
        order: the column of command numbers that the index keeps in order.
        conditions: the conditions of this filter.
        ordered_parts: the same conditions as alternatives, each of which an index answers in the
            order of numbers. Empty if no index has that order.
        numbers: selects the numbers of all matching commands, in any order.
        rest: the other filters.
    """

    source: FromClause
    order: ColumnElement[int]
    conditions: tuple[Condition, ...]
    ordered_parts: tuple[tuple[Condition, ...], ...]
    numbers: Select[Any]
    rest: Filter


def leading_filters(wanted: Filter) -> Iterator[LeadingFilter]:
    """Yield each filter that could lead a walk; none if a walk must read all commands."""
    number = commands.c.number
    for pair in dict.fromkeys(wanted.labels):
        has = (labels.c.key == pair[0], labels.c.value == pair[1])
        others = tuple(other for other in wanted.labels if other != pair)
        yield LeadingFilter(
            labels.join(JOINED, labels.c.number == number),
            labels.c.number,
            has,
            (has,),
            select(labels.c.number).where(*has),
            replace(wanted, labels=others),
        )
    if wanted.statuses:
        values = [status.value for status in wanted.statuses]
        each = tuple((commands.c.status == value,) for value in values)
        condition = commands.c.status.in_(values)
        yield _of_commands((condition,), each, replace(wanted, statuses=()))
    if wanted.host is not None:
        here = (commands.c.host == wanted.host,)
        yield _of_commands(here, (here,), replace(wanted, host=None))
    if wanted.created_after is not None or wanted.created_before is not None:
        rest = replace(wanted, created_after=None, created_before=None)
        yield _of_commands(tuple(_times(wanted, commands.c.created_at)), (), rest)


def unfiltered(wanted: Filter) -> LeadingFilter:
    """Return the leading filter of a walk over all commands."""
    return _of_commands((), ((),), wanted)


def _of_commands(
    conditions: tuple[Condition, ...], streams: tuple[tuple[Condition, ...], ...], rest: Filter
) -> LeadingFilter:
    number = commands.c.number
    return LeadingFilter(
        JOINED, number, conditions, streams, select(number).where(*conditions), rest
    )


def id_candidates(part: str, before: int | None, limit: int) -> list[Select[Any]]:
    """Return statements that select the newest commands whose ids may begin or end with a text.

    Args:
        part: part of an id's text, in lower case, at least as long as `ID_END_DIGITS`.
        before: only smaller numbers; None for all.
        limit: maximum number of rows for each statement.

    Returns:
        Statements that select numbers and ids. They compare only the last `ID_END_DIGITS` digits
        of the end of an id, so the caller must check the whole text.
    """
    # An expression, so that the database uses the index of ids. With the index of numbers, in
    # whose order the rows are wanted, it would go through everything.
    number = commands.c.number + literal_column("0")
    older = [] if before is None else [number < before]
    conditions: list[Condition] = []
    if (span := id_range(part)) is not None:
        conditions.append(commands.c.id.between(*span))
    if (digits := id_ending(part)) is not None:
        conditions.append(id_end(commands.c.id) == digits[-ID_END_DIGITS:])
    return [
        select(commands.c.number, commands.c.id)
        .where(condition, *older)
        .order_by(number.desc())
        .limit(limit)
        for condition in conditions
    ]


def matches_nothing(wanted: Filter) -> bool:
    """Return whether no command can match: a key has one value, and labels are limited."""
    pairs = set(wanted.labels)
    return len(pairs) > MAX_LABELS or len({key for key, _ in pairs}) < len(pairs)


def remaining_conditions(rest: Filter) -> Iterator[Condition]:
    """Yield the conditions of filters that do not lead; they use no index except that of labels.

    If the database used another index than that of the leading filter, it would go through all
    rows of that index between two numbers, which may be everything.
    """
    for key, value in dict.fromkeys(rest.labels):
        other = labels.alias()  # the leading filter may read from `labels` itself
        yield exists().where(
            other.c.key == key, other.c.value == value, other.c.number == commands.c.number
        )
    if rest.statuses:
        yield _without_index(commands.c.status).in_([status.value for status in rest.statuses])
    if rest.host is not None:
        yield _without_index(commands.c.host) == rest.host
    yield from _times(rest, commands.c.created_at + literal_column("0"))
    if rest.text is not None:
        needle = _lower_ascii(rest.text)
        yield contains_ascii_lower(commands.c.name, needle) | contains_ascii_lower(
            inputs.c.script, needle
        )


def _without_index(column: ColumnElement[str]) -> ColumnElement[str]:
    """Return a text column as an expression that no index contains."""
    return column.concat(literal_column("''"))


def _times(wanted: Filter, created_at: ColumnElement[int]) -> Iterator[Condition]:
    if wanted.created_after is not None:
        yield created_at > wanted.created_after
    if wanted.created_before is not None:
        yield created_at < wanted.created_before


class contains_ascii_lower(FunctionElement[bool]):  # noqa: N801 - a function of SQL
    """Whether a text, with its ASCII letters in lower case, contains a part; NULL does not."""

    inherit_cache = True
    type = Boolean()


@compiles(contains_ascii_lower, "sqlite")
def _sqlite_contains(element: Any, compiler: Any, **more: Any) -> str:
    text, part = (compiler.process(clause, **more) for clause in element.clauses)
    return f"(instr(lower({text}), {part}) > 0)"  # SQLite's lower() changes only ASCII letters


@compiles(contains_ascii_lower, "postgresql")
def _postgresql_contains(element: Any, compiler: Any, **more: Any) -> str:
    text, part = (compiler.process(clause, **more) for clause in element.clauses)
    return f'(strpos(lower({text} COLLATE "C"), {part}) > 0)'


def _lower_ascii(text: str) -> str:
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)
