"""A launcher that does not get to its exec: it holds up nobody, and what becomes of it is told.

The keeper's cgroups are frozen, so that every launcher stands still the moment it enters its own.
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


class Frost:
    """A service whose launchers stand still for as long as it is frozen."""

    def __init__(self, service: Service, way: str) -> None:
        require("cgroup", "compiler")
        self.service = service
        self.way = way
        own = own_cgroup()
        assert own is not None, "no cgroup2 is mounted"
        self.base = Path(own) / cgroup_of(keeper_of(service).pid)
        self.frozen(1)

    def way_now(self) -> str:
        """Return how it says that scripts are started."""
        return str(self.service.client.get("/readyz").json()["spawn"])

    def frozen(self, number: int) -> None:
        """Freeze with 1, thaw with 0."""
        (self.base / "cgroup.freeze").write_text(str(number))

    def launch(self, script: str, **fields: Any) -> str:
        """Submit a script; return its command's id once its launcher stands still."""
        command = str(self.service.submit(script, **fields)["id"])
        self.pid_of(command)
        return command

    def pid_of(self, command: str) -> int:
        def entered() -> int:
            procs = self.base / command / "cgroup.procs"
            return int(procs.read_text() or 0) if procs.exists() else 0

        return int(eventually(entered, "a launcher in its cgroup"))

    def kinds(self, command: str) -> list[str]:
        """Return what the journal says of a command."""
        directory = str(self.service.data_dir / "journal")
        return [
            record.kind.name
            for base in segment_bases(directory)
            for record in scan(directory, base)
            if record.command_id.hex() == command.replace("-", "")
        ]


WAYS = {"launcher": (), "clone": ("--run-as", str(os.geteuid()))}


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """One whose keeper waits for launchers for ever: what ends one here is something else."""
    made = Installation()
    made.change(
        "keeper/command/launches.py", "LAUNCH_SECONDS = 30.0\n", "LAUNCH_SECONDS = 3600.0\n"
    )
    yield made
    made.remove()


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """How scripts are started."""
    return str(request.param)


@pytest.fixture(scope="module")
def service(way: str, installation: Installation) -> Iterator[Service]:
    flags = ("--shutdown-grace-seconds", "3600", *WAYS[way])
    with running_service(*flags, python=installation.python) as running:
        yield running


@pytest.fixture
def frost(service: Service, way: str) -> Iterator[Frost]:
    """The service, frozen until the test's end, when nothing of it runs any more."""
    if not service.is_alive:
        service.start()
    frost = Frost(service, way)
    try:
        assert frost.way_now() == frost.way
        yield frost
    finally:
        if frost.base.exists():
            frost.frozen(0)
    if service.is_alive:
        service.stop_all_commands()


def test_others_are_served_meanwhile_and_it_goes_on_then(frost: Frost) -> None:
    service = frost.service
    commands = [frost.launch("echo ran") for _ in range(3)]
    assert service.client.get("/readyz").json()["status"] == "ready"
    for command in commands:
        assert frost.kinds(command) == [Kind.STARTING.name]
        assert service.get(command)["started_at"] is None
    frost.frozen(0)
    for command in commands:
        assert service.wait(command)["status"] == "succeeded"
        assert service.bytes_of(command) == b"ran\n"
        assert frost.kinds(command) == ["STARTING", "STARTED", "OUTPUT", "EXITED", "CLOSED"]


def test_a_stop_ends_it(frost: Frost) -> None:
    mark = unique_seconds()
    command = frost.launch(f"echo ran; sleep {mark}")
    pid = frost.pid_of(command)
    ask_to_stop(frost.service, command, grace_seconds=3600)
    eventually(lambda: not psutil.pid_exists(pid), "the launcher to be gone")
    final = frost.service.wait(command)
    assert final["status"] == "stopped"
    assert final["signal"] == "SIGKILL"
    assert frost.service.bytes_of(command) == b""
    assert frost.kinds(command)[:3] == ["STARTING", "STARTED", "STOPPING"]
    wait_until_gone(mark)


def test_a_server_that_dies_meanwhile_runs_it_once(frost: Frost) -> None:
    service = frost.service
    command = frost.launch("echo ran")
    service.kill_server()
    service.wait_until_healthy()
    # Sent after the new server has asked the keeper what it has, and sent again what it has not.
    other = frost.launch("echo other")
    frost.frozen(0)
    assert service.wait(other)["status"] == "succeeded"
    assert service.wait(command)["status"] == "succeeded"
    assert service.bytes_of(command) == b"ran\n"
    assert frost.kinds(command).count("STARTING") == 1


def test_a_keeper_that_dies_meanwhile_leaves_nobody(frost: Frost) -> None:
    service = frost.service
    command = frost.launch("echo ran")
    pid = frost.pid_of(command)
    service.kill_keeper()
    service.start()
    assert service.wait(command)["status"] == "lost"
    eventually(lambda: not psutil.pid_exists(pid), "the launcher to be gone")
    assert service.bytes_of(command) == b""
    assert not frost.base.exists()


def test_a_shutdown_waits_for_none(frost: Frost) -> None:
    service = frost.service
    commands = [frost.launch("echo ran") for _ in range(3)]
    assert service.stop() == 0
    for command in commands:
        assert frost.kinds(command)[-1] == "CLOSED"
    service.start()
    for command in commands:
        assert service.wait(command)["status"] == "stopped"


def test_an_upgrade_leaves_none_on_its_way(frost: Frost) -> None:
    service = frost.service
    command = frost.launch("echo ran")
    keeper = keeper_of(service)
    keeper.send_signal(signal.SIGHUP)

    def upgraded() -> bool:
        path = service.data_dir / "upgrade"
        return path.exists() and json.loads(path.read_text())["done"]

    eventually(upgraded, "the upgrade")
    assert json.loads((service.data_dir / "upgrade").read_text())["ok"]
    assert frost.way_now() == frost.way
    final = service.wait(command)
    assert (final["status"], final["signal"]) == ("failed", "SIGKILL")
    frost.frozen(0)
    assert service.run("echo works")["status"] == "succeeded"
    assert zombies_of(keeper) == []


def test_what_a_launcher_cannot_do_is_told_later(frost: Frost) -> None:
    service = frost.service
    command = frost.launch(
        "echo ran", interpreter=["/no/such/program"], working_directory="private"
    )
    private = service.data_dir / "private" / command
    assert private.exists()
    frost.frozen(0)
    final = service.wait(command)
    assert final["status"] == "failed"
    assert final["reason"] == "cannot run /no/such/program: No such file or directory"
    assert final["started_at"] is None
    assert frost.kinds(command) == ["STARTING", "REFUSED"]
    assert not private.exists()
    eventually(lambda: not (frost.base / command).exists(), "its cgroup to be gone")
    assert zombies_of(keeper_of(service)) == []


class FrozenLaunch:
    """A keeper in the test's hands, with one launcher that stands still."""

    def __init__(self) -> None:
        require("cgroup", "compiler")
        self.rig = Rig(use_cgroups=True)
        own = own_cgroup()
        assert own is not None, "no cgroup2 is mounted"
        base = Path(own) / cgroup_of(self.rig.process.pid)
        spec = SpawnSpec(str(uuid4()), "echo ran", ["/bin/bash"])
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
def frozen() -> Iterator[FrozenLaunch]:
    made = FrozenLaunch()
    yield made
    made.close()


def test_the_keeper_says_that_it_has_it(frozen: FrozenLaunch) -> None:
    """Else a server would take one that begins just then for one whose end is missing."""
    frozen.rig.send({"type": "held"})
    assert frozen.rig.receive("held")["ids"] == [frozen.command]


def test_it_is_in_the_snapshot_of_a_new_segment(frozen: FrozenLaunch) -> None:
    """Else a keeper that starts after this one's death would leave it alive."""
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


def test_a_script_that_stops_all_of_its_user_stops_no_keeper(
    make_service: Callable[..., Service],
) -> None:
    # As a user of its own: other tests have scripts too.
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
