"""What commands leave in the server: nothing, once they have ended."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.inside import look_inside, python_with_probe
from support.service import Service, eventually, new_directory

WARM = 1100
"""More than the ids that the writer's job remembers, which are a thousand."""
MORE = 200
ROUNDS = 3
LEFT = 100
"""Objects that may come and go by chance; one for each command would be `MORE`."""


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
    """Memory goes on growing for a while by the database's page cache alone, which is bounded."""
    told = {"PROBE_REPORT": str(directory / "told")}
    service = Service(environment=told, python=python_with_probe(directory))
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
    # What leaks grows each time; what is only kept for a while does not.
    leaked = {
        kind: each for kind, each in grown.items() if len(each) == ROUNDS and min(each) > LEFT
    }
    assert leaked == {}
