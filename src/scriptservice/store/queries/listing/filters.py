"""Filters of lists as SQL conditions.

One filter leads a walk: the walk follows the index of this filter. For each command that the walk
meets, the other filters are checked. This module only builds conditions and statements. `listing`
and `walks` run them.
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
    """The filter whose index a walk follows, or no filter if the walk reads all commands.

    Attributes:
        source: the tables to read: commands with their inputs, and labels if a label leads.
        order: the column of ``source`` that has the commands' numbers, in the order of the index.
        conditions: the conditions of the leading filter; empty for all commands.
        ordered_parts: the same conditions, split into alternatives. For each alternative an index
            returns the commands in the order of their numbers. Empty if no index can do that.
        numbers: a statement that selects the numbers of all matching commands, in any order.
        rest: the filters that do not lead.
    """

    source: FromClause
    order: ColumnElement[int]
    conditions: tuple[Condition, ...]
    ordered_parts: tuple[tuple[Condition, ...], ...]
    numbers: Select[Any]
    rest: Filter


def leading_filters(wanted: Filter) -> Iterator[LeadingFilter]:
    """Yield each filter that could lead a walk; yield nothing if a walk must read all commands."""
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
    """Return statements that find the newest commands whose ids begin or may end with a text.

    Args:
        part: the text, in lower case; it has at least `ID_END_DIGITS` characters.
        before: select only commands with smaller numbers than this; None for all commands.
        limit: maximum number of rows for each statement.

    Returns:
        At most two statements that select the numbers and ids of commands: one for ids that begin
        with the text, one for ids that may end with it. The second statement compares only the last
        `ID_END_DIGITS` digits of the text, so the caller must compare the whole text with each id.
    """
    # Sort the rows by an expression, not by the column itself. To sort by the column, the database
    # might read the index of numbers, which is already sorted, and so go through all commands. If
    # the rows are sorted by an expression, the database uses the index of ids.
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
    """Return whether the labels of a filter exclude every possible command.

    A command has only one value for each key, and at most `MAX_LABELS` labels.
    """
    pairs = set(wanted.labels)
    return len(pairs) > MAX_LABELS or len({key for key, _ in pairs}) < len(pairs)


def remaining_conditions(rest: Filter) -> Iterator[Condition]:
    """Yield the conditions of the filters that do not lead.

    The conditions have a form for which the database uses no index, except the indexes of labels.
    The database should use the index of the leading filter. If it used an index of another filter
    instead, it would go through all rows of that index between two numbers. These rows may be all
    commands.
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
    """Return an expression that has a text column's value, but for which there is no index."""
    return column.concat(literal_column("''"))


def _times(wanted: Filter, created_at: ColumnElement[int]) -> Iterator[Condition]:
    if wanted.created_after is not None:
        yield created_at > wanted.created_after
    if wanted.created_before is not None:
        yield created_at < wanted.created_before


class contains_ascii_lower(FunctionElement[bool]):  # noqa: N801 - a function of SQL
    """Whether a text contains a part, after the text's ASCII letters are made lower case.

    This is a function of SQL. Its arguments are the text and the part. The caller must give the
    part's ASCII letters in lower case. If the text is NULL, the condition does not hold.
    """

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
