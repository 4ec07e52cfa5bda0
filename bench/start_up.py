"""Start-up: the time from ``serve`` to the first healthy answer, with very many stored commands.

The limit is the same time with no stored commands.
"""

from functools import partial
from pathlib import Path

from bench import generated_data
from bench.measure import Benchmark, Direction, Plan, Results, Row, Target
from bench.service import SAME_UID


def _seconds(plan: Plan, directory: Path | None) -> float:
    with plan.service(SAME_UID, directory) as service:
        return service.start_seconds


def measure(plan: Plan) -> Results:
    """Measure the empty and the full service in turn; each has already run once before."""
    empty = None if plan.quick else generated_data.data_directory(plan).directory
    full = generated_data.data_directory(plan, 1_000_000).directory
    limit, figure = partial(_seconds, plan, empty), partial(_seconds, plan, full)
    for start in (limit, figure):
        start()
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
