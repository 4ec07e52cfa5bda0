"""A process is killed at each of the fault points in turn.

One service goes through all these tests, so that whatever a death leaves behind is found by one of
the following tests.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from scriptservice.protocol.fault_points import KEEPER_POINTS, SERVER_POINTS, VARIABLE, arm, pending
from support.oracle import Script, Trial, every_kind, late, printer, quick, stubborn
from support.scripts import keeper_of
from support.service import ON_SQLITE, Service, eventually, new_directory, processes_with

MAX_RUNNING_FLAGS = ("--max-running", "6")
RECOVERY = [point for point in KEEPER_POINTS if point.startswith("recovery.")]
BOTH = ["journal.headed", "spawn.spawned", "end.reaped", "writer.committed", "recorder.stored"]
WITHOUT_RECOVERY = [point for point in KEEPER_POINTS if point not in RECOVERY]
BEFORE = {
    "journal.append", "journal.splice", "journal.rotate", "journal.drop", "stop.asked",
    "acknowledged.told", "writer.begun", "dispatch.picked", "recorder.read",
}  # fmt: skip
"""Points before a step: a death there leaves the same as a death after the previous step."""


def with_long(points: Iterable[str], others: Collection[str]) -> list[Any]:
    """Return points as parameters of a test; those in ``others`` are marked long."""
    return [
        pytest.param(point, marks=pytest.mark.long) if point in others else point
        for point in points
    ]


@pytest.fixture(scope="module")
def faults() -> Path:
    """The directory in which fault points are armed."""
    return new_directory()


@pytest.fixture(scope="module")
def target(faults: Path, new_database: Callable[[], str | None]) -> Iterator[Service]:
    """The service that dies at each point."""
    service = Service(
        None, *MAX_RUNNING_FLAGS, database=new_database(), environment={VARIABLE: str(faults)}
    )
    try:
        yield service.start()
    finally:
        service.close()


def scripts(point: str) -> list[Script]:
    """Return scripts that reach a point: more than run at a time, and enough for a new segment."""
    new_segment = point.removeprefix("journal.") in ("rotate", "rotated", "drop", "dropped")
    return [*every_kind(), printer(250_000 if new_segment else 20_000), quick(), quick()]


@pytest.mark.parametrize("point", with_long(SERVER_POINTS, BEFORE))
def test_the_server_is_killed_at(point: str, target: Service, faults: Path) -> None:
    trial = Trial.on_idle_service(target)
    arm(str(faults), point, "kill")
    trial.submit_all(scripts(point))
    trial.verify()
    assert not pending(str(faults), point), "nothing came to this point"


@ON_SQLITE
@pytest.mark.parametrize("point", with_long(WITHOUT_RECOVERY, BEFORE))
def test_the_keeper_is_killed_at(point: str, target: Service, faults: Path) -> None:
    keeper_is_killed_at(point, target, faults)


@pytest.fixture(scope="module")
def forking_target(faults: Path) -> Iterator[Service]:
    """A service without the launcher, which runs scripts as its own user, without cgroups."""
    user = ("--run-as", str(os.geteuid()))
    flags = (*MAX_RUNNING_FLAGS, *user, "--no-use-cgroups", "--no-use-launcher")
    service = Service(None, *flags, environment={VARIABLE: str(faults)})
    try:
        yield service.start()
    finally:
        service.close()


@pytest.mark.parametrize(
    "point",
    with_long(
        [point for point in WITHOUT_RECOVERY if point.startswith("spawn.")],
        ["spawn.starting", "spawn.process", "spawn.started"],
    ),
)
def test_a_keeper_that_forks_is_killed_at(
    point: str, forking_target: Service, faults: Path
) -> None:
    assert forking_target.ready()["spawn"] == "fork"
    keeper_is_killed_at(point, forking_target, faults)


def keeper_is_killed_at(point: str, target: Service, faults: Path) -> None:
    """Let the keeper die at a point while scripts of all kinds run; check everything."""
    trial = Trial(target)
    trial.submit(quick())
    trial.settle()
    arm(str(faults), point, "kill")
    trial.submit_all(scripts(point), retry=False)
    wait_for_the_keepers_death(target, trial)
    target.start()
    found = trial.verify(keeper_died=True)
    assert not pending(str(faults), point), "nothing came to this point"
    assert found.get("lost", 0) <= int(MAX_RUNNING_FLAGS[1]), found


@ON_SQLITE
@pytest.mark.parametrize("point", with_long(BOTH, ["spawn.spawned", "end.reaped"]))
def test_both_are_killed_at(point: str, target: Service, faults: Path) -> None:
    """Some scripts are hard to end: a daemon, one that ignores SIGTERM, suspended processes."""
    trial = Trial(target)
    trial.submit_all([stubborn(), frozen(), frozen()])
    keeper = keeper_of(target)
    frozen_ones = 2
    eventually(lambda: stopped_of(trial) == 2 * frozen_ones, "those that stop themselves")
    eventually(lambda: len(processes_with(trial.mark)) == 2 * frozen_ones + 3, "the daemon")
    server = psutil.Process(target.server_pid)
    arm(str(faults), point, "stop")
    stops = keeper if point in KEEPER_POINTS else server
    trial.answer_seconds = 1
    for script in [printer(20_000), quick(), stubborn(), quick(7), late()]:
        if stops.status() != psutil.STATUS_STOPPED:
            trial.submit(script, retry=False)
    eventually(lambda: stops.status() == psutil.STATUS_STOPPED, "it to come to this point")
    target.kill_both()
    target.start()
    found = trial.verify(keeper_died=True)
    assert found["lost"] >= frozen_ones + 1


@ON_SQLITE
@pytest.mark.parametrize("point", RECOVERY)
def test_the_next_keeper_is_killed_at(point: str, target: Service, faults: Path) -> None:
    trial = Trial(target)
    survives = trial.submit(stubborn())
    target.wait_for_output(str(survives.id), b"line")
    trial.submit_all(every_kind())
    target.kill_keeper()
    arm(str(faults), point, "kill")
    target.start(wait=False)
    wait_for_the_keepers_death(target, trial)
    target.start()
    trial.verify(keeper_died=True)


def frozen() -> Script:
    """Suspends its child and itself."""
    text = "sleep 3600 & kill -STOP $!; kill -STOP $$"
    return Script("frozen", text, ("stopped", None), stop={"grace_seconds": 0})


def stopped_of(trial: Trial) -> int:
    """Return how many of its processes are suspended."""
    statuses = [each.status() for each in processes_with(trial.mark)]
    return statuses.count(psutil.STATUS_STOPPED)


def wait_for_the_keepers_death(service: Service, trial: Trial) -> None:
    """Wait for the keeper's death; meanwhile stop the scripts that have to be stopped."""
    process = service.process
    assert process is not None

    def has_ended() -> bool:
        if process.poll() is not None:
            return True
        trial.stop_started()
        return False

    eventually(has_ended, "the keeper's death")
    service.close_client()
