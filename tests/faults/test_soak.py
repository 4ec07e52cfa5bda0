"""A few seconds of the soak test, with other faults each time."""

import random
import shutil
from collections.abc import Callable

import pytest

from scriptservice.protocol.fault_points import VARIABLE
from support.service import Service, new_directory
from tools.soak.run import soak
from tools.soak.verdict import Verdict


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.long)])
def test_faults_at_random(
    database_kind: str, make_service: Callable[..., Service], seconds: int
) -> None:
    points = new_directory()
    service = make_service("--max-running", "40", environment={VARIABLE: str(points)}).start()
    verdict = Verdict(random.randrange(1 << 32), database_kind)
    soak(service, points, verdict, seconds=seconds, pause_seconds=0.7, faults=5)
    shutil.rmtree(points)
    assert verdict.problems == [], f"{verdict.table()}\n{service.output()[-20_000:]}"
    assert verdict.faults.total() >= 5
    assert verdict.statuses["succeeded"] > 0
