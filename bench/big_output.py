"""Big output: the time to read a part of a 1 GiB output.

The limit is the time to read a part of the same size from a 1 MiB output.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from uuid import UUID

from bench import generated_data
from bench.measure import Benchmark, Direction, Plan, Results, Row, Target
from bench.service import SAME_UID, MeasuredService

SMALL = 1 << 20
BIG = 1 << 30
PART = 64 << 10
LINES = 100


def _median_ms(
    service: MeasuredService, next_path: Callable[[], str], expected_bytes: int, requests: int
) -> float:
    times = []
    for _ in range(requests):
        path = next_path()
        began = time.perf_counter()
        content = service.ask("GET", path)
        times.append(time.perf_counter() - began)
        if len(content) != expected_bytes:
            sys.exit(f"cannot measure: {path} has {len(content)} bytes, not {expected_bytes}")
    return statistics.median(times) * 1000


def _part_path(command_id: UUID, size: int, rng: random.Random) -> str:
    offset = rng.randrange(0, size - PART + 1)
    return f"/v1/commands/{command_id}/output?offset={offset}&limit={PART}"


def _tail_path(command_id: UUID) -> str:
    return f"/v1/commands/{command_id}/output?tail={LINES}l"


def measure(plan: Plan) -> Results:
    """Read parts of the small and of the big output from one service."""
    directory, ids, sizes = generated_data.data_directory(plan, sizes=(SMALL, BIG))
    requests = plan.size(200, 5)
    rng = random.Random(1)
    with plan.service(SAME_UID, directory) as service:

        def part(which: int) -> float:
            path = partial(_part_path, ids[which], sizes[which], rng)
            return _median_ms(service, path, PART, requests)

        def tail(which: int) -> float:
            return _median_ms(service, partial(_tail_path, ids[which]), 64 * LINES, requests)

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
