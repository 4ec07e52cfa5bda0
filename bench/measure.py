"""What a benchmark is: rows with targets, measured beside a limit, again and again, in turn."""

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
    """On which side of its bound a value is good."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


class Judged(StrEnum):
    """Which value of a row stands beside its target."""

    RATIO = "ratio"
    FIGURE = "figure"


@dataclass(frozen=True)
class Target:
    """What a value must reach.

    Attributes:
        bound: at least or at most this.
        direction: which of them.
        aim: what would be better still, None if there is no such thing.
    """

    bound: float
    direction: Direction = Direction.AT_LEAST
    aim: float | None = None

    def is_met(self, value: float) -> bool:
        if self.direction is Direction.AT_LEAST:
            return value >= self.bound
        return value <= self.bound

    def share(self, value: float) -> float:
        """Return how far a value is on the way to the bound: 1 is there, more is beyond."""
        return value / self.bound if self.direction is Direction.AT_LEAST else self.bound / value

    def __str__(self) -> str:
        text = f"{'≥' if self.direction is Direction.AT_LEAST else '≤'} {self.bound:g}"
        return text if self.aim is None else f"{text}, aim {self.aim:g}"


@dataclass(frozen=True)
class Row:
    """One figure of a benchmark.

    Attributes:
        name: of the figure.
        what: is measured.
        unit: of the figure and of its limit.
        limit: what the limit is; None where there is none.
        target: what must be reached.
        judged: the ratio of figure and limit, or the figure itself.
    """

    name: str
    what: str
    unit: str
    limit: str | None
    target: Target
    judged: Judged = Judged.RATIO


@dataclass
class Series:
    """What was measured of one row, in the order of the repetitions.

    Attributes:
        figures: the service's.
        limits: measured beside each; empty where there is no limit.
        notes: what else was seen, by name with its unit.
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
        """The ratio of the medians."""
        limit = self.limit
        return None if limit is None else self.figure / limit

    @property
    def ratios(self) -> list[float]:
        """The ratio of each repetition."""
        return [each / limit for each, limit in zip(self.figures, self.limits, strict=False)]

    def value(self, judged: Judged) -> float:
        """Return what stands beside the target.

        Raises:
            ValueError: it is a ratio, and there is no limit.
        """
        if judged is Judged.FIGURE:
            return self.figure
        if self.ratio is None:
            raise ValueError("no limit was measured")
        return self.ratio

    def values(self, judged: Judged) -> list[float]:
        """Return the same of each repetition."""
        return self.figures if judged is Judged.FIGURE else self.ratios


Measured = dict[str, Series]
"""What a benchmark found, by names of its rows."""


class Progress:
    """Says on a terminal what is measured now; silent elsewhere."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._began = time.monotonic()
        self._title = ""

    def begin(self, title: str) -> None:
        self._title = title
        self.tell("")

    def tell(self, step: str) -> None:
        """Say what is done now, in place of what was said before."""
        if self._shown:
            minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
            words = f"{minutes}:{seconds:02} {self._title}" + (f": {step}" if step else "")
            print(f"\r\033[K{words[:100]}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Plan:
    """How much is to be measured.

    Attributes:
        quick: whether it only has to run, at a fraction of the size.
        repetitions: how often.
        progress: told of each step.
        kept: what ends only with the run.
    """

    quick: bool
    repetitions: int
    progress: Progress
    kept: ExitStack = field(default_factory=ExitStack)
    _shared: dict[tuple[Path | None, tuple[str, ...]], MeasuredService] = field(
        default_factory=dict
    )

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @contextmanager
    def service(self, flags: list[str], directory: Path | None = None) -> Iterator[MeasuredService]:
        """Give a new service for a ``with``, on a directory of its own if none is said.

        If it only has to run, it is the same service for all who ask with the same words: to start
        it would take longer than to measure it.
        """
        if not self.quick:
            with ExitStack() as stack:
                place = directory or stack.enter_context(new_directory())
                yield stack.enter_context(MeasuredService(place, flags))
            return
        wanted = directory, tuple(flags)
        if wanted not in self._shared:
            place = directory or self.kept.enter_context(new_directory())
            self._shared[wanted] = self.kept.enter_context(MeasuredService(place, flags))
        yield self._shared[wanted]

    def interleaved(
        self, name: str, limit: Callable[[], float], figure: Callable[[], float]
    ) -> Series:
        """Measure limit and figure in turn, so that what changes around them meets both."""
        series = Series()
        for turn in range(1, self.repetitions + 1):
            self.progress.tell(f"{name}, limit, {turn} of {self.repetitions}")
            series.limits.append(limit())
            self.progress.tell(f"{name}, service, {turn} of {self.repetitions}")
            series.figures.append(figure())
        return series


@dataclass(frozen=True)
class Benchmark:
    """What can be measured by itself.

    Attributes:
        name: by which it is chosen.
        rows: what it finds.
        measure: finds it; a row may be missing where it cannot be measured here.
    """

    name: str
    rows: tuple[Row, ...]
    measure: Callable[[Plan], Measured]
