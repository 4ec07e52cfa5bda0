"""Processes that do not get to their exec delay no other script, and their outcome is reported.

The keeper's cgroups are frozen, so that every new process stops as soon as it has entered its own.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from scriptservice.keeper.journal.journal_repair import scan
from scriptservice.keeper.previous_keeper import read_previous_keeper
from scriptservice.keeper.system.linux import process_stat
from scriptservice.keeper.tree.cgroup import own_cgroup
from scriptservice.protocol.frames import SpawnSpec
from scriptservice.protocol.journal_format import Kind, segment_bases
from support.needs import require
from support.rig import Rig
from support.scripts import (
    ask_to_stop,
    cgroup_of,
    keeper_of,
    unique_seconds,
    wait_until_gone,
    zombies_of,
)
from support.service import Service, eventually, running_service
from support.upgrades import Installation


class FrozenService:
    """A service whose new processes stop before their exec for as long as it is frozen."""

    def __init__(self, service: Service, method: str) -> None:
        require("cgroup", "compiler")
        self.service = service
        self.method = method
        own = own_cgroup()
        assert own is not None, "no cgroup2 is mounted"
        self.base = Path(own) / cgroup_of(keeper_of(service).pid)
        self.frozen(1)

    def spawn_method(self) -> str:
        """Return the spawn method that ``/readyz`` shows."""
        return str(self.service.ready()["spawn"])

    def frozen(self, number: int) -> None:
        """Freeze all cgroups with 1, thaw them with 0."""
        (self.base / "cgroup.freeze").write_text(str(number))

    def launch(self, script: str, **fields: Any) -> str:
        """Submit a script; return its command's id once its process has stopped."""
        command = str(self.service.submit(script, **fields)["id"])
        self.pid_of(command)
        return command

    def pid_of(self, command: str) -> int:
        def entered() -> int:
            procs = self.base / command / "cgroup.procs"
            return int(procs.read_text() or 0) if procs.exists() else 0

        return int(eventually(entered, "a launcher in its cgroup"))

    def kinds(self, command: str) -> list[str]:
        """Return the kinds of a command's records in the journal, in order."""
        directory = str(self.service.data_dir / "journal")
        return [
            record.kind.name
            for base in segment_bases(directory)
            for record in scan(directory, base)
            if record.command_id.hex() == command.replace("-", "")
        ]


METHODS = {"launcher": (), "fork": ("--no-use-launcher",)}


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """An installation whose keeper never counts an undecided start as started."""
    made = Installation()
    made.change("keeper/life/life.py", "DECIDE_SECONDS = 1.0\n", "DECIDE_SECONDS = 3600.0\n")
    yield made
    made.remove()


@pytest.fixture(scope="module", params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    """The spawn method."""
    return str(request.param)


@pytest.fixture(scope="module")
def service(method: str, installation: Installation) -> Iterator[Service]:
    flags = ("--shutdown-grace-seconds", "3600", *METHODS[method])
    with running_service(*flags, python=installation.python) as running:
        yield running


@pytest.fixture
def frozen_service(service: Service, method: str) -> Iterator[FrozenService]:
    """The service, frozen during the test and ended after it."""
    if not service.is_alive:
        service.start()
    frozen_service = FrozenService(service, method)
    try:
        assert frozen_service.spawn_method() == frozen_service.method
        yield frozen_service
    finally:
        if frozen_service.base.exists():
            frozen_service.frozen(0)
    if service.is_alive:
        service.stop_all_commands()


def test_a_pending_start_delays_no_other_script(frozen_service: FrozenService) -> None:
    service = frozen_service.service
    commands = [frozen_service.launch("echo ran") for _ in range(3)]
    assert service.ready()["status"] == "ready"
    for command in commands:
        assert frozen_service.kinds(command) == [Kind.STARTING.name]
        assert service.get(command)["started_at"] is None
    frozen_service.frozen(0)
    for command in commands:
        assert service.wait(command)["status"] == "succeeded"
        assert service.bytes_of(command) == b"ran\n"
        kinds = frozen_service.kinds(command)
        kinds.remove("OUTPUT")  # before EXITED or after it
        assert kinds == ["STARTING", "STARTED", "EXITED", "CLOSED"]


def test_a_stop_ends_a_pending_start(frozen_service: FrozenService) -> None:
    mark = unique_seconds()
    command = frozen_service.launch(f"echo ran; sleep {mark}")
    pid = frozen_service.pid_of(command)
    ask_to_stop(frozen_service.service, command, grace_seconds=0)
    eventually(lambda: not psutil.pid_exists(pid), "the launcher to be gone")
    final = frozen_service.service.wait(command)
    assert final["status"] == "stopped"
    assert final["signal"] == "SIGKILL"
    assert frozen_service.service.bytes_of(command) == b""
    assert frozen_service.kinds(command)[:3] == ["STARTING", "STARTED", "STOPPING"]
    wait_until_gone(mark)


def test_a_pending_start_runs_once_after_the_server_dies(frozen_service: FrozenService) -> None:
    service = frozen_service.service
    command = frozen_service.launch("echo ran")
    service.kill_server()
    service.wait_until_healthy()
    # The new server sends this one after it has asked the keeper which commands it holds and has
    # sent the missing ones again.
    other = frozen_service.launch("echo other")
    frozen_service.frozen(0)
    assert service.wait(other)["status"] == "succeeded"
    assert service.wait(command)["status"] == "succeeded"
    assert service.bytes_of(command) == b"ran\n"
    assert frozen_service.kinds(command).count("STARTING") == 1


def test_a_pending_start_dies_with_the_keeper(frozen_service: FrozenService) -> None:
    service = frozen_service.service
    command = frozen_service.launch("echo ran")
    pid = frozen_service.pid_of(command)
    service.kill_keeper()
    service.start()
    assert service.wait(command)["status"] == "lost"
    eventually(lambda: not psutil.pid_exists(pid), "the launcher to be gone")
    assert service.bytes_of(command) == b""
    assert not frozen_service.base.exists()


def test_a_shutdown_kills_a_pending_start(frozen_service: FrozenService) -> None:
    service = frozen_service.service
    commands = [frozen_service.launch("echo ran", grace_seconds=0) for _ in range(3)]
    assert service.stop() == 0
    for command in commands:
        assert frozen_service.kinds(command)[-1] == "CLOSED"
    service.start()
    for command in commands:
        assert service.wait(command)["status"] == "stopped"


def test_a_pending_start_survives_an_upgrade(frozen_service: FrozenService) -> None:
    service = frozen_service.service
    command = frozen_service.launch("echo ran")
    other = frozen_service.launch("echo ran", interpreter=["/no/such/program"])
    keeper = keeper_of(service)
    keeper.send_signal(signal.SIGHUP)

    def upgraded() -> bool:
        path = service.data_dir / "upgrade"
        return path.exists() and json.loads(path.read_text())["done"]

    eventually(upgraded, "the upgrade")
    assert json.loads((service.data_dir / "upgrade").read_text())["ok"]
    assert frozen_service.spawn_method() == frozen_service.method
    assert frozen_service.kinds(command) == ["STARTING"]
    frozen_service.frozen(0)
    assert service.wait(command)["status"] == "succeeded"
    assert service.bytes_of(command) == b"ran\n"
    assert frozen_service.kinds(command).count("STARTED") == 1
    final = service.wait(other)
    assert final["reason"] == "cannot run /no/such/program: No such file or directory"
    eventually(lambda: zombies_of(keeper) == [], "no zombie")


def test_a_failure_after_a_pending_start_is_reported(frozen_service: FrozenService) -> None:
    service = frozen_service.service
    command = frozen_service.launch(
        "echo ran", interpreter=["/no/such/program"], working_directory="private"
    )
    private = service.data_dir / "private" / command
    assert private.exists()
    frozen_service.frozen(0)
    final = service.wait(command)
    assert final["status"] == "failed"
    assert final["reason"] == "cannot run /no/such/program: No such file or directory"
    assert final["started_at"] is None
    assert frozen_service.kinds(command) == ["STARTING", "REFUSED"]
    assert not private.exists()
    eventually(lambda: not (frozen_service.base / command).exists(), "its cgroup to be gone")
    eventually(lambda: zombies_of(keeper_of(service)) == [], "no zombie")


class FrozenStart:
    """A keeper without a server, with one process that stopped before its exec."""

    def __init__(self, interpreter: str = "/bin/bash") -> None:
        require("cgroup", "compiler")
        self.rig = Rig(use_cgroups=True)
        own = own_cgroup()
        assert own is not None, "no cgroup2 is mounted"
        base = Path(own) / cgroup_of(self.rig.process.pid)
        spec = SpawnSpec(str(uuid4()), "echo ran", [interpreter])
        self.command = spec.id
        self.cgroup = base / spec.id
        self.cgroup.mkdir()
        (self.cgroup / "cgroup.freeze").write_text("1")
        self.rig.send(spec.to_frame())
        eventually((self.cgroup / "cgroup.procs").read_text, "the launcher")

    def close(self) -> None:
        if self.cgroup.exists():
            (self.cgroup / "cgroup.freeze").write_text("0")
        self.rig.close()


@pytest.fixture
def frozen() -> Iterator[FrozenStart]:
    made = FrozenStart()
    yield made
    made.close()


def test_a_pending_start_is_among_the_held_commands(frozen: FrozenStart) -> None:
    """Otherwise a new server would take its end for missing if it starts at that moment."""
    frozen.rig.send({"type": "held"})
    assert frozen.rig.receive("held")["ids"] == [frozen.command]


def test_a_pending_start_is_in_the_snapshot_of_a_new_segment(frozen: FrozenStart) -> None:
    """Otherwise the next keeper would not kill it."""
    rig = frozen.rig
    rig.wait_for(rig.spawn("head -c 70000000 /dev/zero"), Kind.CLOSED)
    directory = str(rig.data_dir / "journal")
    assert len(segment_bases(directory)) == 2
    past = read_previous_keeper(directory)
    assert list(past.open) == [frozen.command]
    pid = int((frozen.cgroup / "cgroup.procs").read_text())
    stat = process_stat(pid)
    assert stat is not None
    found = past.open[frozen.command]
    assert (found.pid, found.start_ticks) == (pid, stat.start_ticks)


def test_a_failure_that_is_reported_late_is_an_exit_status() -> None:
    """The command counts as started already. Without a reader, SIGPIPE would end the process."""
    frozen = FrozenStart("/no/such/program")
    try:
        frozen.rig.wait_for(frozen.command, Kind.STARTED)
        (frozen.cgroup / "cgroup.freeze").write_text("0")
        status = frozen.rig.wait_for(frozen.command, Kind.EXITED).fields()["status"]
        assert os.waitstatus_to_exitcode(status) == 127
        frozen.rig.wait_for(frozen.command, Kind.CLOSED)
    finally:
        frozen.close()


def test_a_script_that_stops_its_users_processes_does_not_block_the_keeper(
    make_service: Callable[..., Service],
) -> None:
    # With its own user: other tests run scripts too.
    service = make_service("--no-use-cgroups", "--script-uid", "59997").start()
    attacker = service.submit("echo up; while :; do kill -STOP -1; done")["id"]
    service.wait_for_output(attacker, b"up")
    stopped = [service.submit("sleep 3600")["id"] for _ in range(20)]
    for command in (*stopped, attacker):
        assert service.client.get("/readyz").status_code == 200
        ask_to_stop(service, command, grace_seconds=0)
    for command in (*stopped, attacker):
        assert service.wait(command)["status"] == "stopped"
    assert service.run("echo works")["status"] == "succeeded"
