"""Latency of an idle service: from ``POST ?wait`` of the script ``true`` to the final answer.

The limit is the time of ``bash -c true``, run from Python.
"""

import statistics
import subprocess
import sys
import time

from bench.measure import Benchmark, Direction, Plan, Results, Row, Target
from bench.service import SAME_UID


def _median_ms(times: list[float]) -> float:
    return statistics.median(times) * 1000


def measure(plan: Plan) -> Results:
    """Measure one service, after a few commands that warm it up."""
    count = plan.size(300, 10)

    def limit() -> float:
        times = []
        for _ in range(count):
            began = time.perf_counter()
            subprocess.run(["bash", "-c", "true"], check=True)
            times.append(time.perf_counter() - began)
        return _median_ms(times)

    with plan.service(SAME_UID) as service:

        def figure() -> float:
            times = []
            for _ in range(count):
                began = time.perf_counter()
                command = service.submit("true", wait=True)
                times.append(time.perf_counter() - began)
                if command["status"] != "succeeded":
                    sys.exit(f"cannot measure: a command ended as {command['status']}")
            return _median_ms(times)

        for _ in range(10):
            service.submit("true", wait=True)
        return {"idle": plan.interleaved("idle", limit, figure)}


BENCHMARK = Benchmark(
    "idle-latency",
    (
        Row(
            "idle",
            "`POST ?wait` of `true` to its final answer, median",
            "ms",
            "`bash -c true` run from Python",
            Target(4, Direction.AT_MOST),
        ),
    ),
    measure,
)
