"""Lists of commands: every filter, newest first, each page as cheap as the first."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Connection, Select, exists, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from scriptservice.model import Command, Filter
from scriptservice.store.rows import ITEM, JOINED, THERE, command_of
from scriptservice.store.tables import commands, inputs, labels


def page(connection: Connection, wanted: Filter, limit: int, before: int | None) -> list[Command]:
    """Return commands, newest first, without their scripts.

    Args:
        connection: to read from.
        wanted: which.
        limit: at most so many.
        before: only those with a smaller number; None from the newest on.
    """
    conditions: list[ColumnElement[bool]] = [THERE, *_conditions(wanted)]
    source = JOINED
    order = commands.c.number
    if wanted.labels:
        # The label's own index gives the numbers in order.
        (key, value), *others = wanted.labels
        source = labels.join(JOINED, labels.c.number == commands.c.number)
        conditions += [labels.c.key == key, labels.c.value == value]
        conditions += [_labelled(*pair) for pair in others]
        order = labels.c.number
    if before is not None:
        conditions.append(order < before)
    query: Select[Any] = (
        select(*ITEM).select_from(source).where(*conditions).order_by(order.desc()).limit(limit)
    )
    return [command_of(row) for row in connection.execute(query)]


def _conditions(wanted: Filter) -> Iterable[ColumnElement[bool]]:
    if wanted.statuses:
        yield commands.c.status.in_([status.value for status in wanted.statuses])
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
