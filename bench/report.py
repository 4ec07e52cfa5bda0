"""Formats results as JSON for programs, and as lines and tables for people; reads the JSON."""

import json
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure import Criterion, Row, Series
from bench.registry import BENCHMARKS

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "performance.md"
PLOT = DOCS / "images" / "bench-ratios.svg"


@dataclass(frozen=True)
class ResultLine:
    """One row and its measurements.

    Attributes:
        benchmark: name of the benchmark.
        row: what was measured.
        series: the measurements.
    """

    benchmark: str
    row: Row
    series: Series

    @property
    def value(self) -> float:
        """The value that is compared with the target."""
        return self.series.value(self.row.criterion)

    @property
    def values(self) -> list[float]:
        """For each repetition, the value that is compared with the target."""
        return self.series.values(self.row.criterion)

    @property
    def met(self) -> bool:
        return self.row.target.is_met(self.value)


def to_json(found: dict[str, dict[str, Series]], *, quick: bool) -> dict[str, Any]:
    """Return all results and the descriptions of their rows as JSON values.

    Args:
        found: the series, by the names of benchmark and row.
        quick: whether the results come from a quick run; then the targets do not count.
    """
    return {
        "machine": {
            "processors": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "judged": not quick,
        "benchmarks": {
            line.benchmark: {
                each.row.name: _row_json(each, quick=quick)
                for each in lines(found)
                if each.benchmark == line.benchmark
            }
            for line in lines(found)
        },
    }


def _row_json(line: ResultLine, *, quick: bool) -> dict[str, Any]:
    row, series = line.row, line.series
    return {
        "what": row.what,
        "unit": row.unit,
        "figure": series.figure,
        "figures": series.figures,
        "limited_by": row.limit,
        "limit": series.limit,
        "limits": series.limits,
        "ratio": series.ratio,
        "target": {
            "of": row.criterion.value,
            "bound": row.target.bound,
            "direction": row.target.direction.value,
            "aim": row.target.aim,
        },
        "met": None if quick else line.met,
        "notes": series.notes,
    }


def read(path: Path) -> dict[str, dict[str, Series]]:
    """Return the results in a JSON file that `to_json` made."""
    benchmarks = json.loads(path.read_text())["benchmarks"]
    return {
        benchmark: {
            name: Series(row["figures"], row["limits"], row["notes"]) for name, row in rows.items()
        }
        for benchmark, rows in benchmarks.items()
    }


def lines(found: dict[str, dict[str, Series]]) -> Iterator[ResultLine]:
    """Yield the results row by row, in the order of the table."""
    for benchmark in BENCHMARKS:
        for row in benchmark.rows:
            series = found.get(benchmark.name, {}).get(row.name)
            if series is not None and series.figures:
                yield ResultLine(benchmark.name, row, series)


def number(value: float) -> str:
    """Return a number with three significant digits."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _with_range(values: list[float], median: float) -> str:
    if len(values) < 2:
        return number(median)
    return f"{number(median)} ({number(min(values))}–{number(max(values))})"


def text(line: ResultLine) -> str:
    """Return a result as one line for a terminal."""
    series, row = line.series, line.row
    words = [
        f"{line.benchmark + ', ' + row.name:<40}",
        f"{_with_range(series.figures, series.figure)} {row.unit}",
    ]
    if series.limit is not None:
        words.append(f"limit {_with_range(series.limits, series.limit)}")
    if series.ratio is not None:
        words.append(f"ratio {_with_range(series.ratios, series.ratio)}")
    of = " (figure)" if row.criterion is Criterion.FIGURE else ""
    words.append(f"target {row.target}{of}")
    return "  ".join(words)


def table(found: dict[str, dict[str, Series]]) -> str:
    """Return the table of ``docs/performance.md``."""
    head = [
        "| | measured | service | limit | ratio | wanted | |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join(head + [_markdown(line) for line in lines(found)])


def _markdown(line: ResultLine) -> str:
    series, row = line.series, line.row
    limit = "–"
    if series.limit is not None:
        limit = f"{_with_range(series.limits, series.limit)}: {row.limit}"
    ratio = "–" if series.ratio is None else _with_range(series.ratios, series.ratio)
    wanted = f"{row.target}" + (f" {row.unit}" if row.criterion is Criterion.FIGURE else "")
    cells = [
        f"{line.benchmark}, {row.name}",
        row.what,
        f"{_with_range(series.figures, series.figure)} {row.unit}",
        limit,
        ratio,
        wanted,
        "" if line.met else "missed",
    ]
    return f"| {' | '.join(cells)} |"


def put_into_page(name: str, content: str) -> None:
    """Replace the text between the two marks of a part of ``docs/performance.md``.

    Raises:
        ValueError: the page has no such marks.
    """
    page = PAGE.read_text()
    begin, end = f"<!-- {name}: made by scripts/bench -->\n", f"<!-- end of {name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"cannot put {name} into {PAGE}: its marks are missing")
    PAGE.write_text(pattern.sub(lambda _: f"{begin}{content}\n{end}", page))
