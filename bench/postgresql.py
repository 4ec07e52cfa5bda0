"""Start rate on PostgreSQL; the limit is the start rate on SQLite in the same run.

The PostgreSQL server comes from a wheel of the test environment. It runs with PostgreSQL's default
durability settings. If ``TEST_DATABASE_URL`` is set, the server that it names is used instead.
"""

import os
import sys
from functools import partial
from pathlib import Path

from bench.measure import Benchmark, Plan, Results, Row, Target
from bench.service import SAME_UID
from bench.start_rate import service_rate


def measure(plan: Plan) -> Results:
    """Measure SQLite and PostgreSQL in turn; measure nothing without a PostgreSQL server."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    try:
        from support.postgres import Databases, PostgresServer
    except ImportError:
        return {}
    count = plan.size(2000, 20)
    notes: dict[str, float] = {}
    url = os.environ.get("TEST_DATABASE_URL")
    if url is None:
        server = PostgresServer({"fsync": "on"})
        plan.until_the_end.callback(server.close)
        url = server.start().url("postgres")
    databases = Databases(url)
    plan.until_the_end.callback(databases.close)

    def figure() -> float:
        return service_rate(plan, count, [*SAME_UID, "--database", databases.migrated()], notes)

    limit = partial(service_rate, plan, count, SAME_UID, {})
    found = plan.interleaved("start rate", limit, figure)
    found.notes.update(notes)
    return {"start rate": found}


BENCHMARK = Benchmark(
    "postgresql",
    (
        Row(
            "start rate",
            "`echo hello` through `POST`, all stored in PostgreSQL and final",
            "commands/s",
            "the same in SQLite",
            Target(0.8),
        ),
    ),
    measure,
)
