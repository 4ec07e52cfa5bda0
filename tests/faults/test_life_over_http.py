"""The whole life of commands as a state machine: any order of requests and kills of the server."""

from pathlib import Path

import pytest

from support.lives_over_http import LivesOverHttp, lead_lives_over_http
from support.service import Service

FEW, MANY = 5, 200


@pytest.fixture
def runs(service: Service) -> Path:
    """A directory in which scripts of any user can make files."""
    made = service.data_dir.parent / "runs"
    made.mkdir(exist_ok=True)
    made.chmod(0o777)
    return made


@pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
def test_any_order_of_requests(service: Service, runs: Path, examples: int) -> None:
    lead_lives_over_http(LivesOverHttp, service, runs, examples)
