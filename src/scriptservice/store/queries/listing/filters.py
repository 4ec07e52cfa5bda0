"""Filters of lists as SQL: which of them an index gives in order, and how the others are looked up.

Nothing here reads the database; `listing` does, with what this makes.
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

MOST_LABELS = 64
"""How many labels a command has at most: with more, none can have them all."""


@dataclass(frozen=True, slots=True)
class Lead:
    """The filter down which a walk goes, or none for all commands.

    Attributes:
        source: what is read: commands with their inputs, and the labels where one leads.
        order: the column with the commands' numbers that the index has in order.
        conditions: let through what the filter does.
        streams: the same as conditions of which an index answers each in the order of the
            numbers. Empty where no index has it in that order.
        counted: selects the numbers that the filter lets through, in any order.
        rest: the other filters.
    """

    source: FromClause
    order: ColumnElement[int]
    conditions: tuple[Condition, ...]
    streams: tuple[tuple[Condition, ...], ...]
    counted: Select[Any]
    rest: Filter


def leads_of(wanted: Filter) -> Iterator[Lead]:
    """Yield each filter that could lead; none if all commands have to be gone through."""
    number = commands.c.number
    for pair in dict.fromkeys(wanted.labels):
        has = (labels.c.key == pair[0], labels.c.value == pair[1])
        others = tuple(other for other in wanted.labels if other != pair)
        yield Lead(
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


def all_commands(wanted: Filter) -> Lead:
    """Return what leads where no filter does: the commands themselves."""
    return _of_commands((), ((),), wanted)


def _of_commands(
    conditions: tuple[Condition, ...], streams: tuple[tuple[Condition, ...], ...], rest: Filter
) -> Lead:
    number = commands.c.number
    return Lead(JOINED, number, conditions, streams, select(number).where(*conditions), rest)


def id_candidates(part: str, before: int | None, limit: int) -> list[Select[Any]]:
    """Return what selects the newest commands whose ids may begin or end with a text.

    Args:
        part: of the text of ids, in lower case, at least as long as `ID_END_DIGITS`.
        before: only smaller numbers; None for all.
        limit: at most so many from each.

    Returns:
        Selects of numbers and ids; of the ids only the last `ID_END_DIGITS` digits are compared.
    """
    # An expression, so that a database uses the index of ids and not that of numbers, in whose
    # order it would go through everything.
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
    """Whether no command can have all labels: a key has one value, and there are not so many."""
    pairs = set(wanted.labels)
    return len(pairs) > MOST_LABELS or len({key for key, _ in pairs}) < len(pairs)


def looked_up(rest: Filter) -> Iterator[Condition]:
    """Yield the conditions of filters that do not lead; no index but that of labels is used.

    A database that took another index than that of the filter that leads would go through what
    lies between two numbers there, which may be everything.
    """
    for key, value in dict.fromkeys(rest.labels):
        other = labels.alias()  # the list itself may be read from the labels
        yield exists().where(
            other.c.key == key, other.c.value == value, other.c.number == commands.c.number
        )
    if rest.statuses:
        yield _aside(commands.c.status).in_([status.value for status in rest.statuses])
    if rest.host is not None:
        yield _aside(commands.c.host) == rest.host
    yield from _times(rest, commands.c.created_at + literal_column("0"))
    if rest.text is not None:
        needle = _lower_ascii(rest.text)
        yield contains_ascii_lower(commands.c.name, needle) | contains_ascii_lower(
            inputs.c.script, needle
        )


def _aside(column: ColumnElement[str]) -> ColumnElement[str]:
    """Return a text column as an expression that no index has."""
    return column.concat(literal_column("''"))


def _times(wanted: Filter, created_at: ColumnElement[int]) -> Iterator[Condition]:
    if wanted.created_after is not None:
        yield created_at > wanted.created_after
    if wanted.created_before is not None:
        yield created_at < wanted.created_before


class contains_ascii_lower(FunctionElement[bool]):  # noqa: N801 - a function of SQL
    """Whether a text, its ASCII letters in lower case, has a part; NULL has none."""

    inherit_cache = True
    type = Boolean()


@compiles(contains_ascii_lower, "sqlite")
def _sqlite_contains(element: Any, compiler: Any, **more: Any) -> str:
    text, part = (compiler.process(clause, **more) for clause in element.clauses)
    return f"(instr(lower({text}), {part}) > 0)"  # its lower() knows ASCII letters only


@compiles(contains_ascii_lower, "postgresql")
def _postgresql_contains(element: Any, compiler: Any, **more: Any) -> str:
    text, part = (compiler.process(clause, **more) for clause in element.clauses)
    return f'(strpos(lower({text} COLLATE "C"), {part}) > 0)'


def _lower_ascii(text: str) -> str:
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)
