"""History: the time to get a list from a service that has stored very many commands.

The limit is the time to get the same list from a service that has stored 1000 commands.
"""

import statistics
import time
from functools import partial

from bench import generated_data
from bench.measure import Benchmark, Direction, Plan, Results, Row, Series, Target
from bench.service import SAME_UID, MeasuredService

FEW = 1000
LISTS = {
    "list page": "/v1/commands",
    "status filter": "/v1/commands?status=failed",
    "label filter": "/v1/commands?label=team=db",
}
DEEP = 0.9
"""Position of the deep page in the list, as a share of all commands."""


def _deep_page(service: MeasuredService, count: int) -> str:
    """Return the path of a page far down the list.

    The function reads all pages before it, because only the answers contain cursors.
    """
    limit = max(50, min(1000, count // 20))
    path = f"/v1/commands?limit={limit}"
    cursor = ""
    for _ in range(int(count * DEEP) // limit):
        cursor = service.get(f"{path}&cursor={cursor}" if cursor else path)["next_cursor"]
    return f"/v1/commands?cursor={cursor}"


def _median_ms(service: MeasuredService, path: str, requests: int) -> float:
    times = []
    for _ in range(requests):
        began = time.perf_counter()
        service.ask("GET", path)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def measure(plan: Plan) -> Results:
    """Measure two services in turn, one with few commands and one with many."""
    many, requests = plan.size(1_000_000, FEW), plan.size(100, 5)
    found: dict[str, Series] = {}
    small, large = (generated_data.data_directory(plan, count).directory for count in (FEW, many))
    with plan.service(SAME_UID, small) as limit, plan.service(SAME_UID, large) as service:
        plan.progress.show("paging to the deep page")
        paths = {name: (path, path) for name, path in LISTS.items()}
        paths["deep cursor"] = (_deep_page(limit, FEW), _deep_page(service, many))
        for name, (in_few, in_many) in paths.items():
            assert len(limit.get(in_few)["items"]) == len(service.get(in_many)["items"]) == 50
            found[name] = plan.interleaved(
                name,
                partial(_median_ms, limit, in_few, requests),
                partial(_median_ms, service, in_many, requests),
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
