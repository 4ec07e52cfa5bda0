"""Scripts that resist, flee, bomb and flood: told truly, ended wholly, and nobody else notices."""

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from support.gates import Gate
from support.oracle import Trial, every_kind
from support.rude import every_rudeness, every_signal, flees
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
    """What scripts do has nothing to do with the kind of database."""
    return "sqlite"


@pytest.fixture(scope="module", params=FLAGS)
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """A service whose scripts have a user of their own, so that its processes can be bounded."""
    user = str(random.randrange(100_000, 200_000))
    shared = Service(None, *FLAGS[request.param], "--run-as", user)
    try:
        yield shared.start()
    finally:
        shared.close()


def test_every_signal_is_told_by_its_name(service: Service) -> None:
    trial = Trial.on_idle_service(service)
    trial.submit_all(every_signal())
    trial.verify()


def test_rude_scripts_are_told_truly_and_leave_nobody(service: Service) -> None:
    trial = Trial.on_idle_service(service)
    trial.submit_all([*every_rudeness(), *every_kind(), *every_rudeness()])
    trial.verify()


def test_who_flees_is_caught_by_the_next_keeper(service: Service) -> None:
    trial = Trial.on_idle_service(service)
    for script in (flees(environment=True), flees(environment=False)):
        sent = trial.submit(script)
        service.wait_for_output(str(sent.id), b"line 0000001")
    # Of the scripts themselves; who flees is never there when it is looked at.
    eventually(lambda: len(groups_of(trial.mark)) == 2, "both to sleep")
    groups = groups_of(trial.mark)
    service.kill_keeper()
    assert all(map(exists, groups))
    service.start()
    trial.verify(keeper_died=True)
    # Who is dead has still to be reaped, by whoever inherited it from the dead keeper.
    eventually(lambda: not any(map(exists, groups)), "them to be gone")


def groups_of(mark: str) -> set[int]:
    """Return the process groups of what sleeps of a trial."""
    found = set()
    for each in processes_with("sleep"):
        with contextlib.suppress(ProcessLookupError):
            if of(each, mark):
                found.add(os.getpgid(each.pid))
    return found


def exists(group: int) -> bool:
    """Whether a process group has any member."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def of(process: psutil.Process, mark: str) -> bool:
    """Whether a process is one of a trial's."""
    try:
        return mark in process.environ().values()
    except psutil.Error:
        return False


def test_a_fork_bomb_is_ended_by_a_stop(service: Service) -> None:
    trial = Trial.on_idle_service(service)
    mark = f"bomb-{unique_seconds()}"
    bomb = service.submit(
        # Where bash cannot fork for long it gives up: what sleeps stays, and fills the room.
        f"""ulimit -u {BOMB * 2}; echo lit; export BOMB={mark}
        exec bash -c 'bomb() {{ sleep 3600 & bomb | bomb & }}; bomb; exec sleep 3600' 2>&-"""
    )["id"]
    # Who fled in the test before counts until whoever inherited it has reaped it.
    eventually(
        lambda: len(processes_with(mark)) > BOMB,
        lambda: f"it to go off: {len(processes_with(mark))} processes",
    )
    # Not a script of that user's: it may start no more processes.
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


def test_yes_floods_nobody_else(service: Service) -> None:
    _flood(service, YES_SECONDS)


@pytest.mark.long
def test_yes_floods_nobody_else_for_a_minute(service: Service) -> None:
    _flood(service, LONG_YES_SECONDS)


def test_the_shared_directory_is_deleted_and_the_keeper_killed_by_a_script_of_its_own_user(
    make_service: Callable[..., Service],
) -> None:
    """Where scripts are the same user nothing protects the keeper; its death is told honestly."""
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
