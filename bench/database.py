"""Completed commands per second on PostgreSQL, beside the same on SQLite in the same run.

The server is one of this machine's own, from the test environment's wheel, with the durability
that it has by default; or any, by ``TEST_DATABASE_URL``.
"""

import os
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.completed import MODES, service_rate

WANTED = 0.8


def main(*, quick: bool) -> dict[str, Any]:
    """Measure both in turn, print a table, return the figures."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    try:
        from support.postgres import Databases, PostgresServer
    except ImportError:
        print("PostgreSQL: not measured (scripts/environment requirements-dev.lock has a server)")
        return {}
    count, runs = (200, 1) if quick else (2000, 5)
    flags = MODES["same uid"]
    rates: dict[str, list[float]] = {"sqlite": [], "postgresql": []}
    report: dict[str, dict[str, float]] = {name: {} for name in rates}
    with ExitStack() as stack:
        url = os.environ.get("TEST_DATABASE_URL")
        if url is None:
            server = PostgresServer({"fsync": "on"})
            stack.callback(server.close)
            url = server.start().url("postgres")
        databases = Databases(url)
        stack.callback(databases.close)
        for _ in range(runs):
            rates["sqlite"].append(service_rate(count, flags, report["sqlite"]))
            more = [*flags, "--database", databases.migrated()]
            rates["postgresql"].append(service_rate(count, more, report["postgresql"]))
    ratios = [
        there / here for here, there in zip(rates["sqlite"], rates["postgresql"], strict=True)
    ]
    print(f"\n{'stored in':<28}{'median/s':>9}   CPU ms a command")
    for name, each in rates.items():
        cpu = ", ".join(f"{part} {value:.2f}" for part, value in report[name].items())
        print(f"{name:<28}{statistics.median(each):>9.0f}   {cpu}")
    ratio = statistics.median(ratios)
    print(f"PostgreSQL / SQLite {ratio:.2f} (of pairs {min(ratios):.2f} to {max(ratios):.2f})")
    return {**rates, "ratio": ratio}
