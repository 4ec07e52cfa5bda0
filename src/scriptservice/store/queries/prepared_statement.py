"""Statements that run for every command, compiled once.

SQLAlchemy looks each statement up by what it consists of and makes an execution's surroundings
anew, some 40 µs each time. What runs for every command goes to the driver as text with values in
order instead, made by SQLAlchemy all the same: once for each dialect.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.sql.dml import UpdateBase


class Prepared:
    """A statement that changes rows, with a place for each name of values.

    Args:
        statement: an INSERT without values, or an UPDATE with parameters.
        columns: for an INSERT, those that get values; for an UPDATE none.
    """

    def __init__(self, statement: UpdateBase, columns: Iterable[str] = ()) -> None:
        self._statement = statement
        self._columns = list(columns)
        self._compiled: dict[str, _Compiled] = {}

    def execute(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> int:
        """Run it once for each row of values.

        Args:
            connection: in a transaction.
            rows: all values by their names; at least one row.

        Returns:
            How many rows of the table it changed, altogether.

        Raises:
            SQLAlchemyError: as `Connection.execute` does.
        """
        dialect = connection.dialect
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = _Compiled(self._statement, self._columns, dialect)
            self._compiled[dialect.name] = compiled
        return connection.exec_driver_sql(compiled.text, compiled.values(rows)).rowcount


class _Compiled:
    """A statement in the words of one dialect."""

    def __init__(self, statement: UpdateBase, columns: list[str], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        self.text = str(compiled)
        self._in_order = None
        names = list(compiled.binds)
        if compiled.positional:
            names = list(compiled.positiontup or ())
            self._in_order = itemgetter(*names)
        self._makers: list[tuple[int, str, Callable[[Any], Any]]] = []
        for place, name in enumerate(names):
            kind = compiled.binds[name].type.dialect_impl(dialect)
            if make := kind.bind_processor(dialect):
                self._makers.append((place, name, make))

    def values(self, rows: Sequence[dict[str, Any]]) -> Any:
        """Return rows as the driver takes them: tuples in order, or dictionaries."""
        if self._in_order is None:
            return [self._made_by_name(row) for row in rows] if self._makers else list(rows)
        if not self._makers:
            return list(map(self._in_order, rows))
        return [self._made(self._in_order(row)) for row in rows]

    def _made(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        made = list(values)
        for place, _, make in self._makers:
            made[place] = make(made[place])
        return tuple(made)

    def _made_by_name(self, row: dict[str, Any]) -> dict[str, Any]:
        return row | {name: make(row[name]) for _, name, make in self._makers}
