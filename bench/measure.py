"""The parts of a benchmark: rows with targets, and the measurements of each row.

A *figure* is a value of the service. Its *limit* is what the machine or a simpler program reaches
with the same work. Both are measured in turn, several times.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from bench.service import MeasuredService, new_directory


class Direction(StrEnum):
    """Whether a value must be at least the bound, or at most the bound."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


class Criterion(StrEnum):
    """Which value of a row is compared with its target."""

    RATIO = "ratio"
    FIGURE = "figure"


@dataclass(frozen=True)
class Target:
    """What a value must reach.

    Attributes:
        bound: the least or the greatest value that meets the target.
        direction: whether ``bound`` is the least or the greatest such value.
        aim: a better value than the bound, for later work; None if there is no such aim.
    """

    bound: float
    direction: Direction = Direction.AT_LEAST
    aim: float | None = None

    def is_met(self, value: float) -> bool:
        if self.direction is Direction.AT_LEAST:
            return value >= self.bound
        return value <= self.bound

    def share(self, value: float) -> float:
        """Return how far a value meets the target; the result is 1 or more if it does.

        The result is value / bound if the bound is a least value, and bound / value otherwise.
        """
        return value / self.bound if self.direction is Direction.AT_LEAST else self.bound / value

    def __str__(self) -> str:
        text = f"{'≥' if self.direction is Direction.AT_LEAST else '≤'} {self.bound:g}"
        return text if self.aim is None else f"{text}, aim {self.aim:g}"


@dataclass(frozen=True)
class Row:
    """One figure of a benchmark.

    Attributes:
        name: name of the figure.
        what: what is measured, in words.
        unit: unit of the figure and of its limit.
        limit: what the limit is, in words; None if the row has no limit.
        target: what must be reached.
        criterion: whether the target is about the ratio of figure and limit or about the figure.
    """

    name: str
    what: str
    unit: str
    limit: str | None
    target: Target
    criterion: Criterion = Criterion.RATIO


@dataclass
class Series:
    """The measurements of one row, in the order of the repetitions.

    Attributes:
        figures: the service's value in each repetition.
        limits: the limit in each repetition, measured before the figure; empty if the row has no
            limit.
        notes: additional values by name; the name contains the unit.
    """

    figures: list[float] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def figure(self) -> float:
        return statistics.median(self.figures)

    @property
    def limit(self) -> float | None:
        return statistics.median(self.limits) if self.limits else None

    @property
    def ratio(self) -> float | None:
        """The median of the figures divided by the median of the limits; None without limits."""
        limit = self.limit
        return None if limit is None else self.figure / limit

    @property
    def ratios(self) -> list[float]:
        """The figure divided by the limit, for each repetition."""
        return [each / limit for each, limit in zip(self.figures, self.limits, strict=False)]

    def value(self, criterion: Criterion) -> float:
        """Return the value that is compared with the target.

        Raises:
            ValueError: the criterion is the ratio, and no limit was measured.
        """
        if criterion is Criterion.FIGURE:
            return self.figure
        if self.ratio is None:
            raise ValueError("no limit was measured")
        return self.ratio

    def values(self, criterion: Criterion) -> list[float]:
        """Return the figure or the ratio of each repetition, whichever the criterion names."""
        return self.figures if criterion is Criterion.FIGURE else self.ratios


Results = dict[str, Series]
"""The measurements of a benchmark, by the names of its rows."""


class Progress:
    """Shows on stderr which measurement is running, if stderr is a terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._began = time.monotonic()
        self._title = ""

    def begin(self, title: str) -> None:
        self._title = title
        self.show("")

    def show(self, step: str) -> None:
        """Show the current step in place of the previous step."""
        if self._shown:
            minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
            words = f"{minutes}:{seconds:02} {self._title}" + (f": {step}" if step else "")
            print(f"\r\033[K{words[:100]}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Plan:
    """How much is measured in this run, and the services that benchmarks share.

    Attributes:
        quick: whether every benchmark runs at a small size, only to show that it works.
        repetitions: how often each row is measured.
        progress: shows each step.
        until_the_end: at the end of the run, closes the services and directories that benchmarks
            share.
    """

    quick: bool
    repetitions: int
    progress: Progress
    until_the_end: ExitStack = field(default_factory=ExitStack)
    _shared: dict[tuple[Path | None, tuple[str, ...]], MeasuredService] = field(
        default_factory=dict
    )

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @contextmanager
    def service(self, flags: list[str], directory: Path | None = None) -> Iterator[MeasuredService]:
        """Yield a new service, on a new directory if none is given.

        In a quick run, calls with the same arguments share one service, because a start takes
        longer than a quick measurement.
        """
        if not self.quick:
            with ExitStack() as stack:
                parent = directory or stack.enter_context(new_directory())
                yield stack.enter_context(MeasuredService(parent, flags))
            return
        key = directory, tuple(flags)
        if key not in self._shared:
            parent = directory or self.until_the_end.enter_context(new_directory())
            self._shared[key] = self.until_the_end.enter_context(MeasuredService(parent, flags))
        yield self._shared[key]

    def interleaved(
        self, name: str, limit: Callable[[], float], figure: Callable[[], float]
    ) -> Series:
        """Measure limit and figure in turn, so that changes of the machine's load affect both."""
        series = Series()
        for repetition in range(1, self.repetitions + 1):
            self.progress.show(f"{name}, limit, {repetition} of {self.repetitions}")
            series.limits.append(limit())
            self.progress.show(f"{name}, service, {repetition} of {self.repetitions}")
            series.figures.append(figure())
        return series


@dataclass(frozen=True)
class Benchmark:
    """A group of rows that are measured together.

    Attributes:
        name: the argument of ``scripts/bench`` that selects it.
        rows: the rows of its results.
        measure: measures the rows; its result lacks rows that this machine cannot measure.
    """

    name: str
    rows: tuple[Row, ...]
    measure: Callable[[Plan], Results]
