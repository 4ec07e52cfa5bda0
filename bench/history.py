"""History: what a list costs with very many stored commands, beside the same with a thousand."""

import statistics
import time
from functools import partial

from bench import filled
from bench.measure import Benchmark, Direction, Measured, Plan, Row, Series, Target
from bench.service import SAME_UID, MeasuredService

FEW = 1000
LISTS = {
    "list page": "/v1/commands",
    "status filter": "/v1/commands?status=failed",
    "label filter": "/v1/commands?label=team=db",
}
DEEP = 0.9
"""How far down the list the deep page is."""


def _deep_page(service: MeasuredService, count: int) -> str:
    """Return the path of a page far down, found as a client finds it: by going there."""
    limit = max(50, min(1000, count // 20))
    path = f"/v1/commands?limit={limit}"
    cursor = ""
    for _ in range(int(count * DEEP) // limit):
        cursor = service.get(f"{path}&cursor={cursor}" if cursor else path)["next_cursor"]
    return f"/v1/commands?cursor={cursor}"


def _median_ms(service: MeasuredService, path: str, asked: int) -> float:
    times = []
    for _ in range(asked):
        began = time.perf_counter()
        service.ask("GET", path)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def measure(plan: Plan) -> Measured:
    """Measure two services side by side."""
    many, asked = plan.size(1_000_000, FEW), plan.size(100, 5)
    found: dict[str, Series] = {}
    here, there = (filled.past(plan, count).directory for count in (FEW, many))
    with plan.service(SAME_UID, here) as few, plan.service(SAME_UID, there) as lots:
        plan.progress.tell("going deep")
        paths = {name: (path, path) for name, path in LISTS.items()}
        paths["deep cursor"] = (_deep_page(few, FEW), _deep_page(lots, many))
        for name, (short, long) in paths.items():
            assert len(few.get(short)["items"]) == len(lots.get(long)["items"]) == 50
            found[name] = plan.interleaved(
                name, partial(_median_ms, few, short, asked), partial(_median_ms, lots, long, asked)
            )
    return found


BENCHMARK = Benchmark(
    "history",
    tuple(
        Row(
            name,
            f"{name} with 1,000,000 stored commands, median",
            "ms",
            "the same with 1,000",
            Target(2, Direction.AT_MOST),
        )
        for name in (*LISTS, "deep cursor")
    ),
    measure,
)
