"""Start-up: ``serve`` to its first healthy answer, with very many stored commands and with none."""

from functools import partial
from pathlib import Path

from bench import filled
from bench.measure import Benchmark, Direction, Measured, Plan, Row, Target
from bench.service import SAME_UID, MeasuredService


def _seconds(directory: Path) -> float:
    with MeasuredService(directory, SAME_UID) as service:
        return service.start_seconds


def measure(plan: Plan) -> Measured:
    """Measure both in turn; each directory has been started before."""
    many = plan.size(1_000_000, 2_000)
    none, lots = (filled.with_commands(count, plan.progress) for count in (0, many))
    return {
        "start-up": plan.interleaved("start-up", partial(_seconds, none), partial(_seconds, lots))
    }


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
