"""Lists of commands: every filter, newest first, each page as cheap as the first."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    exists,
    func,
    select,
    union_all,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from scriptservice.model import Command, Filter, Status
from scriptservice.store.rows import ITEM, JOINED, THERE, command_of
from scriptservice.store.tables import commands, inputs, labels

COUNTED = 2000
"""So many that a filter lets through are counted, to see which filter lets through fewest."""


def page(connection: Connection, wanted: Filter, limit: int, before: int | None) -> list[Command]:
    """Return commands, newest first, without their scripts.

    Args:
        connection: to read from.
        wanted: which.
        limit: at most so many.
        before: only those with a smaller number; None from the newest on.
    """
    label = leading_label(connection, wanted)
    if label is not None:
        # The label's own index gives the numbers in order.
        source, order = labels.join(JOINED, labels.c.number == commands.c.number), labels.c.number
        conditions = [labels.c.key == label[0], labels.c.value == label[1]]
        others = [pair for pair in wanted.labels if pair != label]
    else:
        source, order = JOINED, commands.c.number
        conditions, others = [], list(wanted.labels)
    conditions += [THERE, *(_labelled(*pair) for pair in others), *_conditions(wanted)]
    if before is not None:
        conditions.append(order < before)
    if label is None and len(wanted.statuses) > 1:
        numbers = _of_each_status(connection, source, conditions, wanted.statuses, limit)
        conditions = [commands.c.number.in_(numbers)]
    elif wanted.statuses:
        conditions.append(commands.c.status.in_([status.value for status in wanted.statuses]))
    query: Select[Any] = (
        select(*ITEM).select_from(source).where(*conditions).order_by(order.desc()).limit(limit)
    )
    return [command_of(row) for row in connection.execute(query)]


def _of_each_status(
    connection: Connection,
    source: FromClause,
    conditions: list[ColumnElement[bool]],
    statuses: Iterable[Status],
    limit: int,
) -> list[int]:
    """Return the numbers of a page of several statuses, from the newest of each.

    The index has those of one status in order. With several at once a database would sort all.
    """
    each = [
        select(commands.c.number)
        .select_from(source)
        .where(*conditions, commands.c.status == status.value)
        .order_by(commands.c.number.desc())
        .limit(limit)
        .subquery()
        for status in statuses
    ]
    every = union_all(*(select(some.c.number) for some in each)).subquery()
    newest = select(every.c.number).order_by(every.c.number.desc()).limit(limit)
    return list(connection.execute(newest).scalars())


def leading_label(connection: Connection, wanted: Filter) -> tuple[str, str] | None:
    """Return the label whose commands are gone through, None for those of the statuses, or all.

    The others are looked up for each, so it should be the filter that lets through fewest: a
    common label would be gone through to its end for the few that run.
    """
    if not wanted.labels or (len(wanted.labels) == 1 and not wanted.statuses):
        return wanted.labels[0] if wanted.labels else None
    counts: dict[tuple[str, str] | None, int] = {
        pair: _counted(
            connection,
            select(labels.c.number).where(labels.c.key == pair[0], labels.c.value == pair[1]),
        )
        for pair in wanted.labels
    }
    if wanted.statuses:
        values = [status.value for status in wanted.statuses]
        counts[None] = _counted(
            connection, select(commands.c.number).where(commands.c.status.in_(values))
        )
    return min(counts, key=lambda leading: counts[leading])


def _counted(connection: Connection, query: Select[Any]) -> int:
    some = query.limit(COUNTED).subquery()
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


def _conditions(wanted: Filter) -> Iterable[ColumnElement[bool]]:
    """Yield what a command must be besides its statuses and labels."""
    if wanted.host is not None:
        yield commands.c.host == wanted.host
    if wanted.created_after is not None:
        yield commands.c.created_at > wanted.created_after
    if wanted.created_before is not None:
        yield commands.c.created_at < wanted.created_before
    if wanted.text is not None:
        needle = _lower_ascii(wanted.text)
        yield contains_ascii_lower(commands.c.name, needle) | contains_ascii_lower(
            inputs.c.script, needle
        )


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


def _labelled(key: str, value: str) -> ColumnElement[bool]:
    other = labels.alias()  # the list itself may be read from the labels
    return exists().where(
        other.c.key == key, other.c.value == value, other.c.number == commands.c.number
    )
