"""A minute of the soak: half of it on each database, with other faults each time."""

import random
import shutil
from collections.abc import Callable

from scriptservice.keeper.fault_points import VARIABLE
from soak.run import soak
from soak.verdict import Verdict
from support.service import Service, new_directory


def test_half_a_minute_of_faults(database_kind: str, make_service: Callable[..., Service]) -> None:
    points = new_directory()
    service = make_service("--max-running", "40", environment={VARIABLE: str(points)}).start()
    verdict = Verdict(random.randrange(1 << 32), database_kind)
    soak(service, points, verdict, seconds=30, pause_seconds=0.7, faults=6)
    shutil.rmtree(points)
    assert verdict.problems == [], f"{verdict.table()}\n{service.output()[-20_000:]}"
    assert verdict.faults.total() > 5
    assert verdict.statuses["succeeded"] > 10
