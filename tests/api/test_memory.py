"""Commands leave no objects in the server once they have ended."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.inside import look_inside, python_with_probe
from support.service import Service, eventually, new_directory

WARM = 1100
"""More than the thousand ids that the writer's job remembers."""
MORE = 200
ROUNDS = 3
LEFT = 100
"""How many objects may remain by chance; a leak of one for each command would be `MORE`."""


@pytest.fixture
def directory() -> Iterator[Path]:
    made = new_directory()
    yield made
    shutil.rmtree(made)


def run_all(service: Service, count: int) -> None:
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda _: service.submit("echo hello"), range(count)):
            pass
    still = [("status", status) for status in ("queued", "running", "stopping")]

    def ended() -> bool:
        return not service.client.get("/v1/commands", params=still).json()["items"]

    eventually(ended, "all to end", 120)


def test_commands_that_have_ended_leave_no_objects(directory: Path) -> None:
    """Only objects count, since memory also grows by the database's bounded page cache."""
    environment = {"PROBE_REPORT": str(directory / "report")}
    service = Service(environment=environment, python=python_with_probe(directory))
    try:
        service.start().run("true")
        run_all(service, WARM)
        grown: dict[str, list[int]] = {"blocks": []}
        before = look_inside(service)
        for _ in range(ROUNDS):
            run_all(service, MORE)
            after = look_inside(service)
            grown["blocks"].append(after["blocks"] - before["blocks"])
            for kind in after["kinds"]:
                more = after["kinds"][kind] - before["kinds"].get(kind, 0)
                grown.setdefault(kind, []).append(more)
            before = after
    finally:
        service.close()
    # A leak grows in each round; objects that are only kept for a while do not.
    leaked = {
        kind: each for kind, each in grown.items() if len(each) == ROUNDS and min(each) > LEFT
    }
    assert leaked == {}
