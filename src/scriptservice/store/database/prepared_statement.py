"""Statements that run for every command, compiled once for each dialect.

When SQLAlchemy executes a statement object, it looks up the statement by its structure and builds a
context. Both together take about 40 µs. Some statements run for every command. This module lets
SQLAlchemy compile these statements to text once. It then passes the text and the values directly to
the driver.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.sql.dml import UpdateBase


class PreparedStatement:
    """An INSERT or UPDATE that has a named parameter for each value.

    Args:
        statement: an INSERT without values, or an UPDATE with parameters.
        columns: for an INSERT, the names of the columns that get values; empty for an UPDATE.
    """

    def __init__(self, statement: UpdateBase, columns: Iterable[str] = ()) -> None:
        self._statement = statement
        self._columns = list(columns)
        self._compiled: dict[str, _CompiledStatement] = {}

    def execute(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> int:
        """Run the statement once for each row of values.

        Args:
            connection: connection that is in a transaction.
            rows: at least one row; each row has a value for every parameter, by the parameter's
                name.

        Returns:
            The total number of rows that were changed.

        Raises:
            SQLAlchemyError: the database refused the statement, or does not answer.
        """
        dialect = connection.dialect
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = _CompiledStatement(self._statement, self._columns, dialect)
            self._compiled[dialect.name] = compiled
        return connection.exec_driver_sql(compiled.text, compiled.values(rows)).rowcount


class _CompiledStatement:
    """A statement compiled for one dialect."""

    def __init__(self, statement: UpdateBase, columns: list[str], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        self.text = str(compiled)
        self._get_in_order = None
        names = list(compiled.binds)
        if compiled.positional:
            names = list(compiled.positiontup or ())
            self._get_in_order = itemgetter(*names)
        self._converters: list[tuple[int, str, Callable[[Any], Any]]] = []
        for place, name in enumerate(names):
            kind = compiled.binds[name].type.dialect_impl(dialect)
            if convert := kind.bind_processor(dialect):
                self._converters.append((place, name, convert))

    def values(self, rows: Sequence[dict[str, Any]]) -> Any:
        """Return rows as the driver expects them: dictionaries, or tuples in parameter order."""
        if self._get_in_order is None:
            return [self._convert_by_name(row) for row in rows] if self._converters else list(rows)
        if not self._converters:
            return list(map(self._get_in_order, rows))
        return [self._convert(self._get_in_order(row)) for row in rows]

    def _convert(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        converted = list(values)
        for place, _, convert in self._converters:
            converted[place] = convert(converted[place])
        return tuple(converted)

    def _convert_by_name(self, row: dict[str, Any]) -> dict[str, Any]:
        return row | {name: convert(row[name]) for _, name, convert in self._converters}
