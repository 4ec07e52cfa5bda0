"""A working directory on a file system that does not answer hangs the process of its script only.

The keeper stands in for one that a client names: it starts, stops, times out and ends all others.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from scriptservice.keeper.spawn.spawner import COMMAND_ID_VARIABLE
from scriptservice.keeper.system.linux import environment_value, process_environment
from scriptservice.protocol.frames import SpawnSpec
from scriptservice.protocol.journal_format import Kind
from support.gates import Gate
from support.mounts import hanging_directory
from support.rig import Rig
from support.service import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.needs_fuse

METHODS = ["launcher", "fork"]


@pytest.fixture
def hangs(directory: Path) -> Iterator[Path]:
    with hanging_directory(directory / "hangs") as path:
        yield path


@pytest.fixture(params=METHODS)
def rig(request: pytest.FixtureRequest, hangs: Path) -> Iterator[Rig]:
    """A keeper, which is closed before the mount."""
    assert hangs
    made = Rig(use_launcher=request.param == "launcher")
    yield made
    made.close()


def process_in(rig: Rig, directory: Path) -> psutil.Process:
    """Return the process of the keeper that waits to enter a directory."""

    def find() -> psutil.Process | None:
        for child in psutil.Process(rig.process.pid).children():
            call = Path(f"/proc/{child.pid}/wchan").read_text()
            if "fuse" in call or "request_wait" in call:
                return child
        return None

    found = eventually(find, f"a process that waits for {directory}")
    assert isinstance(found, psutil.Process)
    return found


def test_others_start_run_time_out_and_stop(rig: Rig, hangs: Path) -> None:
    stuck = rig.spawn("echo never", working_directory=str(hangs))
    process = process_in(rig, hangs)
    rig.wait_for(rig.spawn("echo ran"), Kind.CLOSED)
    timed = rig.spawn("exec sleep 3600", timeout_seconds=0.1, grace_seconds=0)
    assert rig.wait_for(timed, Kind.STOPPING).fields()["cause"] == "timeout"
    rig.wait_for(timed, Kind.CLOSED)
    gate = Gate(rig)
    waits = rig.spawn(gate.block)
    rig.wait_for(waits, Kind.STARTED)
    rig.send({"type": "stop", "id": waits, "signal": "SIGTERM", "grace_seconds": 0})
    rig.wait_for(waits, Kind.CLOSED)
    assert process.is_running()
    rig.send({"type": "stop", "id": stuck, "signal": "SIGTERM", "grace_seconds": 0})
    rig.wait_for(stuck, Kind.CLOSED)
    assert rig.output_bytes(stuck) == 0


def test_an_interpreter_that_hangs_delays_no_other_script(rig: Rig, hangs: Path) -> None:
    spec = SpawnSpec(str(uuid4()), "echo never", [str(hangs / "bash")])
    rig.send(spec.to_frame())
    process_in(rig, hangs)
    rig.wait_for(rig.spawn("echo ran"), Kind.CLOSED)
    rig.send({"type": "stop", "id": spec.id, "signal": "SIGTERM", "grace_seconds": 0})
    rig.wait_for(spec.id, Kind.CLOSED)


def test_the_keeper_shuts_down(rig: Rig, hangs: Path) -> None:
    stuck = rig.spawn("echo never", working_directory=str(hangs), grace_seconds=0)
    process_in(rig, hangs)
    rig.process.send_signal(signal.SIGTERM)
    rig.receive("finish")
    assert Kind.CLOSED in rig.kinds(stuck)
    rig.end_child()
    rig.process.wait(PATIENCE_SECONDS)


def test_the_process_that_waits_has_only_its_own_descriptors(rig: Rig, hangs: Path) -> None:
    """Otherwise it would hold the pipes of other scripts open, which then never end."""
    before = os.listdir(f"/proc/{rig.process.pid}/fd")
    gate = Gate(rig)
    others = [rig.spawn(gate.block) for _ in range(3)]
    for each in others:
        rig.wait_for(each, Kind.STARTED)
    stuck = rig.spawn("echo never", working_directory=str(hangs))
    process = process_in(rig, hangs)
    found = {int(name) for name in os.listdir(f"/proc/{process.pid}/fd")}
    assert {0, 1, 2, 63} < found
    (status,) = found - {0, 1, 2, 63}
    assert "pipe" in os.readlink(f"/proc/{process.pid}/fd/{status}")
    gate.open()
    for each in others:
        rig.wait_for(each, Kind.CLOSED)
    process.kill()
    rig.wait_for(stuck, Kind.CLOSED)
    eventually(
        lambda: len(os.listdir(f"/proc/{rig.process.pid}/fd")) == len(before), "no descriptor left"
    )


def test_a_later_keeper_can_tell_whose_process_waits(hangs: Path) -> None:
    """The launcher has the script's environment; a forked process dies with its keeper."""
    rig = Rig(use_launcher=True)
    try:
        stuck = rig.spawn("echo never", working_directory=str(hangs))
        environment = process_environment(process_in(rig, hangs).pid)
        assert environment is not None
        found = environment_value(environment, COMMAND_ID_VARIABLE.encode())
        assert found == stuck.encode()
    finally:
        rig.close()
    rig = Rig(use_launcher=False)
    try:
        rig.spawn("echo never", working_directory=str(hangs))
        process = process_in(rig, hangs)
        rig.process.kill()
        eventually(lambda: not process.is_running(), "the process to die with the keeper")
    finally:
        rig.close()
