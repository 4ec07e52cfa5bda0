"""Scripts that resist, fork endlessly or flood: reported truly, ended wholly, delaying nobody."""

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from support.gates import Gate
from support.oracle import Trial, every_kind
from support.rude import every_rudeness, every_signal, forks_endlessly
from support.scripts import keeper_of, peak_bytes, stop, unique_seconds
from support.service import PATIENCE_SECONDS, Service, eventually, processes_with

FLAGS = {"cgroup": (), "walk": ("--no-use-cgroups",)}
YES_SECONDS = 2.0
LONG_YES_SECONDS = 60.0
YES_LIMIT_BYTES = 16 << 20
KEEPER_BYTES = 40 << 20
SERVER_BYTES = 160 << 20
SPOOL_BYTES = 256 << 20
BOMB = 60


@pytest.fixture(scope="module")
def database_kind() -> str:
    """The kind of database, on which the behaviour of scripts does not depend."""
    return "sqlite"


@pytest.fixture(scope="module", params=FLAGS)
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """A service whose scripts have a user of their own, whose processes can be limited."""
    user = str(random.randrange(100_000, 200_000))
    shared = Service(None, *FLAGS[request.param], "--run-as", user)
    try:
        yield shared.start()
    finally:
        shared.close()


def test_every_signal_is_reported_by_its_name(service: Service) -> None:
    trial = Trial.on_idle_service(service)
    trial.submit_all(every_signal())
    trial.verify()


def test_rude_scripts_are_reported_truly_and_leave_nothing(service: Service) -> None:
    trial = Trial.on_idle_service(service)
    trial.submit_all([*every_rudeness(), *every_kind(), *every_rudeness()])
    trial.verify()


def test_endless_forkers_are_killed_by_the_next_keeper(service: Service) -> None:
    trial = Trial.on_idle_service(service)
    for script in (forks_endlessly(environment=True), forks_endlessly(environment=False)):
        sent = trial.submit(script)
        service.wait_for_output(str(sent.id), b"line 0000001")
    # Only the scripts themselves: an endless forker is gone whenever it is looked at.
    eventually(lambda: len(groups_of(trial.mark)) == 2, "both to sleep")
    groups = groups_of(trial.mark)
    service.kill_keeper()
    assert all(map(exists, groups))
    service.start()
    trial.verify(keeper_died=True)
    # Dead processes still have to be reaped by the process that inherited them from the keeper.
    eventually(lambda: not any(map(exists, groups)), "them to be gone")


def groups_of(mark: str) -> set[int]:
    """Return the process groups of the ``sleep`` processes of a trial."""
    found = set()
    for each in processes_with("sleep"):
        with contextlib.suppress(ProcessLookupError):
            if belongs_to(each, mark):
                found.add(os.getpgid(each.pid))
    return found


def exists(group: int) -> bool:
    """Return whether a process group has any member."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def belongs_to(process: psutil.Process, mark: str) -> bool:
    """Return whether a process belongs to a trial."""
    try:
        return mark in process.environ().values()
    except psutil.Error:
        return False


def test_a_fork_bomb_is_ended_by_a_stop(service: Service) -> None:
    trial = Trial.on_idle_service(service)
    mark = f"bomb-{unique_seconds()}"
    bomb = service.submit(
        # If bash cannot fork for long, it gives up; the sleeping processes stay and use the limit.
        f"""ulimit -u {BOMB * 2}; echo lit; export BOMB={mark}
        exec bash -c 'bomb() {{ sleep 3600 & bomb | bomb & }}; bomb; exec sleep 3600' 2>&-"""
    )["id"]
    # Forkers of the test before count towards the limit until they are reaped.
    eventually(
        lambda: len(processes_with(mark)) > BOMB,
        lambda: f"it to go off: {len(processes_with(mark))} processes",
    )
    # No script is run here, since its user may start no more processes.
    assert service.client.get("/readyz").status_code == 200
    assert stop(service, bomb, grace_seconds=0)["status"] == "stopped"
    assert processes_with(mark) == []
    assert processes_with(bomb) == []
    assert service.bytes_of(bomb, stream="stdout") == b"lit\n"
    trial.submit_all(every_kind())
    trial.verify()


def _flood(service: Service, seconds: float) -> None:
    trial = Trial.on_idle_service(service)
    keeper, server = keeper_of(service).pid, service.server_pid
    kept = service.submit("exec yes")["id"]
    cut = service.submit("exec yes", output_limit_bytes=YES_LIMIT_BYTES)["id"]
    journal = service.data_dir / "journal"
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert service.run("echo fine", PATIENCE_SECONDS)["status"] == "succeeded"
        assert sum(path.stat().st_size for path in journal.glob("*")) < SPOOL_BYTES
        assert peak_bytes(keeper) < KEEPER_BYTES
        assert peak_bytes(server) < SERVER_BYTES
    eventually(lambda: service.get(kept)["output"]["bytes"] > YES_LIMIT_BYTES, "much output")
    eventually(lambda: service.get(cut)["output"]["discarded_bytes"], "some to be dropped")
    for command in (kept, cut):
        assert stop(service, command, grace_seconds=0)["status"] == "stopped"
    output = service.get(cut)["output"]
    assert output["bytes"] == YES_LIMIT_BYTES
    assert output["discarded_bytes"] > 0
    assert service.bytes_of(kept, tail=100_000) in (b"y\n" * 50_000, b"\ny" * 50_000)
    assert service.client.delete(f"/v1/commands/{kept}").status_code == 204
    trial.verify()


def test_a_flood_of_output_delays_nobody_else(service: Service) -> None:
    _flood(service, YES_SECONDS)


@pytest.mark.long
def test_a_minute_long_flood_of_output_delays_nobody_else(service: Service) -> None:
    _flood(service, LONG_YES_SECONDS)


def test_the_shared_directory_is_deleted_and_the_keeper_killed_by_a_script_of_its_own_user(
    make_service: Callable[..., Service],
) -> None:
    """Nothing protects the keeper from scripts of its own user; its death is reported truly."""
    service = make_service("--run-as", "root").start()
    trial = Trial(service)
    trial.runs = service.data_dir.parent / "runs"
    trial.submit_all(every_kind())
    assert service.run('rm -rf "$PWD"')["status"] == "succeeded"
    trial.submit_all(every_kind())
    assert service.run("pwd; echo x > file; cat file")["status"] == "succeeded"
    keeper = service.process
    assert keeper is not None
    server = psutil.Process(service.server_pid)
    gate = Gate(service)
    murderer = service.submit(f"{gate.wait}; kill -KILL $PPID; sleep 3600")["id"]
    gate.open()
    assert keeper.wait(PATIENCE_SECONDS) == -9
    psutil.wait_procs([server], PATIENCE_SECONDS)
    service.close_client()
    service.start()
    final = service.wait(murderer)
    assert (final["status"], final["exit_code"]) == ("lost", None)
    assert processes_with(murderer) == []
    trial.verify(keeper_died=True)
