"""Processes that the keeper is not permitted to signal keep only their own command from its end."""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest

from support.orphans import BecomeRoot
from support.scripts import ask_to_stop, unique_seconds
from support.service import Service, eventually, processes_with

USER = 59_998
FLAGS = ("--no-no-new-privileges", "--no-use-cgroups", "--shutdown-grace-seconds", "0")

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_compiler]


@pytest.fixture(scope="module")
def become_root() -> Iterator[BecomeRoot]:
    made = BecomeRoot()
    yield made
    made.close()


class Unkillable:
    """A service of an ordinary user, with a script whose child runs as root, and healthy scripts.

    Attributes:
        service: the service.
        command: the id of the command with that child.
        child: the child.
        healthy: the ids of the other commands.
        healthy_mark: a text in the environment of the other commands' processes.
    """

    def __init__(self, service: Service, become_root: BecomeRoot, script: str) -> None:
        self.service = service.start()
        self._mark = unique_seconds()
        self.healthy_mark = unique_seconds()
        self.healthy = [self._healthy() for _ in range(2)]
        text = script.format(child=f"{become_root.path} /bin/sleep {self._mark}")
        self.command = str(service.submit(text)["id"])
        self.healthy += [self._healthy() for _ in range(3)]

        def find() -> psutil.Process | None:
            for process in processes_with(self._mark):
                with suppress(psutil.Error):
                    if process.name() == "sleep" and process.uids().real == 0:
                        return process
            return None

        self.child = eventually(find, "a child of root")

    def _healthy(self) -> str:
        command = self.service.submit("echo ready; sleep 3600", env={"MARK": self.healthy_mark})
        self.service.wait_for_output(command["id"], b"ready")
        return str(command["id"])

    def shown(self) -> list[dict[str, Any]]:
        """Return the processes that ``/readyz`` names."""
        return list(self.service.ready()["unkillable"])

    def assert_lost(self) -> None:
        """Check that the command is lost, and that its reason names the child."""
        final = self.service.wait(self.command)
        assert final["status"] == "lost"
        assert re.search(rf"\b{self.child.pid}\b.*\buid 0\b", final["reason"]), final["reason"]

    def close(self) -> None:
        for mark in (self._mark, self.healthy_mark):
            for process in processes_with(mark):
                process.kill()


MakeUnkillable = Callable[[str], Unkillable]


@pytest.fixture
def make_unkillable(
    make_service: Callable[..., Service], become_root: BecomeRoot
) -> Iterator[MakeUnkillable]:
    made: list[Unkillable] = []

    def make(script: str) -> Unkillable:
        made.append(Unkillable(make_service(*FLAGS, user=USER), become_root, script))
        return made[-1]

    yield make
    for each in made:
        each.close()


CHILD = "{child} & wait"
LEFTOVER = "{child} >/dev/null 2>&1 & exit 0"
ITSELF = "exec {child}"


@pytest.mark.parametrize("script", [CHILD, ITSELF], ids=["child", "itself"])
def test_it_keeps_only_its_own_command_stopping(
    make_unkillable: MakeUnkillable, script: str
) -> None:
    unkillable = make_unkillable(script)
    service = unkillable.service
    for command in (unkillable.command, *unkillable.healthy):
        ask_to_stop(service, command, grace_seconds=0)
    for command in unkillable.healthy:
        assert service.wait(command)["status"] == "stopped"
    named = [{"pid": unkillable.child.pid, "uid": 0, "command": unkillable.command}]
    eventually(lambda: unkillable.shown() == named, "the child in /readyz")
    assert str(unkillable.child.pid) in " ".join(service.ready()["degraded"])
    assert service.get(unkillable.command)["status"] == "stopping"
    unkillable.child.send_signal(signal.SIGKILL)
    assert service.wait(unkillable.command)["status"] == "stopped"
    eventually(lambda: unkillable.shown() == [], "a clean /readyz")
    assert "keeper_fault" not in service.output()


@pytest.mark.parametrize("script", [CHILD, LEFTOVER], ids=["child", "leftover"])
def test_a_shutdown_ends_the_other_commands(make_unkillable: MakeUnkillable, script: str) -> None:
    unkillable = make_unkillable(script)
    service = unkillable.service
    assert service.stop() == 0
    assert processes_with(unkillable.healthy_mark) == []
    assert unkillable.child.is_running()
    service.start()
    for command in unkillable.healthy:
        assert service.wait(command)["status"] == "stopped"
    unkillable.assert_lost()


@pytest.mark.parametrize("script", [CHILD, LEFTOVER], ids=["child", "leftover"])
def test_a_keeper_starts_although_it_survives(make_unkillable: MakeUnkillable, script: str) -> None:
    unkillable = make_unkillable(script)
    service = unkillable.service
    service.kill_keeper()
    service.start()
    unkillable.assert_lost()
    for command in unkillable.healthy:
        assert service.wait(command)["status"] == "lost"
    assert processes_with(unkillable.healthy_mark) == []
    assert unkillable.child.is_running()
    assert service.run("true")["status"] == "succeeded"
