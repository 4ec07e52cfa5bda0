"""Tables that fit the terminal.

`list` and `hosts` print their rows with this module. If the terminal is too narrow for all columns,
a table first shortens long cells. If this is not enough, the table leaves out columns, in the order
of `Column.drop`. If this is not enough either, the table prints each row on two lines.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

_GAP = 2
_INDENT = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: the column's heading.
        least: the cells may be shortened to this width, in characters; None never to shorten them.
        drop: place in the order in which columns are left out, lowest number first; None to keep
            the column.
        on_second_line: whether the cell moves to a second line if the terminal is very narrow.
        styles: the style of a cell, by its text.
    """

    title: str
    least: int | None = None
    drop: int | None = None
    on_second_line: bool = False
    styles: Mapping[str, str] | None = None


def print_rows(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, if_empty: str) -> None:
    """Print rows, as a table on a terminal, else as one line of tab-separated cells for each row.

    Args:
        columns: the columns of the table.
        rows: for each row, the texts of its cells. An empty cell is shown as ``-``.
        if_empty: what to print on a terminal if there is no row.
    """
    rows = [[cell or "-" for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(row))
    elif not rows:
        print(if_empty)
    else:
        from rich.console import Console

        console = Console()
        for line in table_lines(columns, rows, console.width):
            console.print(line, soft_wrap=True)


def table_lines(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int
) -> list["Text"]:
    """Return the lines of a table, the heading first.

    Args:
        columns: the columns of the table.
        rows: for each row, the texts of its cells.
        width: width of the terminal, in characters.
    """
    from rich.cells import cell_len

    natural = [
        max(cell_len(column.title), *(cell_len(row[number]) for row in rows))
        for number, column in enumerate(columns)
    ]
    shown = _columns_that_fit(columns, natural, width)
    first = shown or [
        number
        for number, column in enumerate(columns)
        if column.drop is None and not column.on_second_line
    ]
    second = [] if shown else [n for n, column in enumerate(columns) if column.on_second_line]
    widths = _widths(columns, natural, first, width)
    heading = [column.title for column in columns]
    lines = [_line(columns, heading, first, widths, heading=True)]
    for row in rows:
        lines.append(_line(columns, row, first, widths))
        for number in second:
            rest = _cell(columns[number], row[number], min(natural[number], width - _INDENT))
            rest.pad_left(_INDENT)
            rest.rstrip()
            lines.append(rest)
    return lines


def _columns_that_fit(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int]:
    """Return the indices of the columns that are shown if each row is one line.

    The list is empty if one line is too narrow for the columns that are never left out.
    """
    shown = list(range(len(columns)))
    droppable = sorted((column.drop, n) for n, column in enumerate(columns) if column.drop)
    while _least_width(columns, natural, shown) > width:
        if not droppable:
            return []
        shown.remove(droppable.pop(0)[1])
    return shown


def _least_width(columns: Sequence[Column], natural: Sequence[int], shown: Sequence[int]) -> int:
    least = sum(_least(columns[number], natural[number]) for number in shown)
    return least + _GAP * (len(shown) - 1)


def _least(column: Column, natural: int) -> int:
    return natural if column.least is None else min(natural, column.least)


def _widths(
    columns: Sequence[Column], natural: Sequence[int], shown: Sequence[int], width: int
) -> dict[int, int]:
    """Return the width of each column; columns further left get the remaining room first."""
    room = max(0, width - _least_width(columns, natural, shown))
    widths = {}
    for number in shown:
        least = _least(columns[number], natural[number])
        widths[number] = min(natural[number], least + room)
        room -= widths[number] - least
    return widths


def _line(
    columns: Sequence[Column],
    cells: Sequence[str],
    shown: Sequence[int],
    widths: Mapping[int, int],
    *,
    heading: bool = False,
) -> "Text":
    from rich.text import Text

    texts = [_cell(columns[number], cells[number], widths[number]) for number in shown]
    line = Text(" " * _GAP).join(texts)
    line.rstrip()
    if heading:
        line.stylize("dim")
    return line


def _cell(column: Column, text: str, width: int) -> "Text":
    from rich.text import Text

    cell = Text(text, style=(column.styles or {}).get(text, ""))
    cell.truncate(width, overflow="ellipsis", pad=True)
    return cell
