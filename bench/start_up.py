"""Start-up: ``serve`` to its first healthy answer, with very many stored commands and with none."""

from functools import partial
from pathlib import Path

from bench import filled
from bench.measure import Benchmark, Direction, Measured, Plan, Row, Target
from bench.service import SAME_UID


def _seconds(plan: Plan, directory: Path | None) -> float:
    with plan.service(SAME_UID, directory) as service:
        return service.start_seconds


def measure(plan: Plan) -> Measured:
    """Measure both in turn; each directory has been started before."""
    none = None if plan.quick else filled.past(plan).directory
    lots = filled.past(plan, 1_000_000).directory
    limit, figure = partial(_seconds, plan, none), partial(_seconds, plan, lots)
    for first in (limit, figure):
        first()
    return {"start-up": plan.interleaved("start-up", limit, figure)}


BENCHMARK = Benchmark(
    "start-up",
    (
        Row(
            "start-up",
            "`serve` to first healthy answer with 1,000,000 stored commands",
            "s",
            "the same with none",
            Target(1.5, Direction.AT_MOST),
        ),
    ),
    measure,
)
