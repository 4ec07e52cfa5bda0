"""Limits of memory and processes, on a machine whose cgroup2 has these controllers.

The service is alone in a cgroup, as in a systemd unit with ``Delegate=yes``.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from support.gates import Gate
from support.needs import cgroup_mount
from support.service import Service, eventually
from support.upgrades import upgrade

pytestmark = [pytest.mark.long, pytest.mark.needs_controllers]

MEMORY_BYTES = 64 << 20
PROCESSES = 40
HOG = "exec python3 -c 'x = bytearray(1 << 30)'"


@pytest.fixture
def unit() -> Iterator[Path]:
    path = cgroup_mount() / f"scriptservice-test-{uuid4()}"
    path.mkdir()
    yield path
    (path / "cgroup.kill").write_text("1")
    eventually(lambda: "populated 0" in (path / "cgroup.events").read_text(), "it to be empty")
    for inner, _, _ in os.walk(path, topdown=False):
        os.rmdir(inner)


@pytest.fixture
def service(make_service: Callable[..., Service], unit: Path) -> Service:
    enter = f'echo 0 >{unit}/cgroup.procs; exec "$@"'
    return make_service(under=("/bin/sh", "-c", enter, "sh")).start()


def test_the_keeper_and_its_server_are_in_a_leaf(service: Service, unit: Path) -> None:
    answer = service.client.get("/readyz").json()
    assert answer["limits"][3:] == ["memory_bytes", "processes"]
    assert (unit / "cgroup.procs").read_text() == ""
    assert service.process is not None
    assert {service.process.pid, service.server_pid} <= pids(unit / "service")
    assert upgrade(service).ok
    assert service.client.get("/readyz").json()["limits"] == answer["limits"]


def pids(path: Path) -> set[int]:
    return {int(pid) for pid in (path / "cgroup.procs").read_text().split()}


@pytest.mark.parametrize("script", [HOG, f"({HOG}); sleep 3600", f"({HOG}) & wait; sleep 3600"])
def test_a_memory_hog_ends_with_its_whole_tree(service: Service, script: str) -> None:
    command = service.run(script, limits={"memory_bytes": MEMORY_BYTES})
    assert (command["status"], command["signal"]) == ("failed", "SIGKILL")
    assert command["reason"] == (
        f"killed for memory: its processes needed more than {MEMORY_BYTES} bytes"
    )
    assert service.run("echo ok")["status"] == "succeeded"


@pytest.mark.parametrize("limit", [MEMORY_BYTES, (1 << 63) - 1])
def test_a_script_within_its_limit_of_memory_runs(service: Service, limit: int) -> None:
    command = service.run("ls -l /usr/bin | sort | tail -1", limits={"memory_bytes": limit})
    assert command["status"] == "succeeded", command


def test_bash_runs_with_the_smallest_limits(service: Service) -> None:
    limits = {"memory_bytes": 4 << 20, "processes": 1, "open_files": 64}
    assert service.run("echo $((1 + 1))", limits=limits)["status"] == "succeeded"


def test_a_fork_bomb_stays_within_its_limit(service: Service, unit: Path) -> None:
    script = ":(){ :|:& };:; while :; do sleep 1; done"
    bomb = service.submit(script, limits={"processes": PROCESSES})
    service.wait_for(bomb["id"], "running")
    (path,) = unit.glob(f"*/{bomb['id']}")

    def has_failed_to_fork() -> bool:
        assert int((path / "pids.current").read_text()) <= PROCESSES
        return "max 0" not in (path / "pids.events").read_text()

    eventually(has_failed_to_fork, "a fork that is refused")
    assert service.run("echo ok")["status"] == "succeeded"
    service.client.post(f"/v1/commands/{bomb['id']}/stop", json={"grace_seconds": 0})
    assert service.wait(bomb["id"])["status"] == "stopped"
    assert not path.exists()


def test_an_upgrade_with_a_command_that_has_limits(service: Service) -> None:
    command = service.submit(Gate(service).wait, limits={"memory_bytes": MEMORY_BYTES})
    service.wait_for(command["id"], "running")
    assert upgrade(service).ok
    again = service.run(HOG, limits={"memory_bytes": MEMORY_BYTES})
    assert again["reason"].startswith("killed for memory")
    service.client.post(f"/v1/commands/{command['id']}/stop", json={"grace_seconds": 0})
    assert service.wait(command["id"])["status"] == "stopped"
