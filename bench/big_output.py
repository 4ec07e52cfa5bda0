"""Big output: what a part of 1 GiB costs to read, beside the same part of 1 MiB."""

import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from uuid import UUID

from bench import filled
from bench.measure import Benchmark, Direction, Measured, Plan, Row, Target
from bench.service import SAME_UID, MeasuredService

SMALL = 1 << 20
BIG = 1 << 30
PART = 64 << 10
LINES = 100


def _median_ms(service: MeasuredService, path: Callable[[], str], wanted: int, asked: int) -> float:
    times = []
    for _ in range(asked):
        where = path()
        began = time.perf_counter()
        content = service.ask("GET", where)
        times.append(time.perf_counter() - began)
        if len(content) != wanted:
            sys.exit(f"cannot measure: {len(content)} bytes of {where}, {wanted} were to come")
    return statistics.median(times) * 1000


def _part(command: UUID, size: int, chance: random.Random) -> str:
    offset = chance.randrange(0, size - PART + 1)
    return f"/v1/commands/{command}/output?offset={offset}&limit={PART}"


def _tail(command: UUID) -> str:
    return f"/v1/commands/{command}/output?tail={LINES}l"


def measure(plan: Plan) -> Measured:
    """Measure both outputs in one service."""
    directory, ids, sizes = filled.past(plan, sizes=(SMALL, BIG))
    asked = plan.size(200, 5)
    chance = random.Random(1)
    with plan.service(SAME_UID, directory) as service:

        def part(which: int) -> float:
            path = partial(_part, ids[which], sizes[which], chance)
            return _median_ms(service, path, PART, asked)

        def tail(which: int) -> float:
            return _median_ms(service, partial(_tail, ids[which]), 64 * LINES, asked)

        part(0)
        return {
            "a part": plan.interleaved("a part", partial(part, 0), partial(part, 1)),
            "its tail": plan.interleaved("its tail", partial(tail, 0), partial(tail, 1)),
        }


def _row(name: str, what: str) -> Row:
    return Row(name, f"{what}, median", "ms", "the same of 1 MiB", Target(2, Direction.AT_MOST))


BENCHMARK = Benchmark(
    "big-output",
    (
        _row("a part", "any 64 KiB of a 1 GiB output"),
        _row("its tail", "the last 100 lines of a 1 GiB output"),
    ),
    measure,
)
