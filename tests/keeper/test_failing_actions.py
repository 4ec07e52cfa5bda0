"""Whatever fails in the keeper for a moment, each command starts once and has one end."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scriptservice.protocol.frames import PROTOCOL_VERSION
from scriptservice.protocol.journal_format import Kind
from support.gates import Gate
from support.rig import Rig
from support.service import eventually

FAILING = """
import errno
from {module} import {name} as broken

def make_failing(original, broken=broken, method={method!r}, path={path!r}):
    def failing(self, *arguments, **named):
        if os.path.exists(path) and {condition}:
            if {once}:
                os.unlink(path)
            raise OSError(errno.EIO, "injected")
        return original(self, *arguments, **named)
    setattr(broken, method, failing)

make_failing(getattr(broken, {method!r}))
"""
"""Lets a method raise an exception for as long as a file exists, or once."""

MakeRig = Callable[..., Rig]


@pytest.fixture
def fault(tmp_path: Path) -> Path:
    """The file that lets something fail."""
    path = tmp_path / "fault"
    path.touch()
    return path


@pytest.fixture
def make_rig(fault: Path) -> Iterator[MakeRig]:
    made: list[Rig] = []

    def make(*methods: str, condition: str = "True", once: bool = False) -> Rig:
        texts = []
        for each in methods:
            module, name, method = each.rsplit(".", 2)
            texts.append(
                FAILING.format(
                    module=module,
                    name=name,
                    method=method,
                    path=str(fault),
                    condition=condition,
                    once=once,
                )
            )
        made.append(Rig(injection="\n".join(texts)))
        return made[-1]

    yield make
    fault.unlink(missing_ok=True)
    for rig in made:
        rig.close()


WATCH = "scriptservice.keeper.system.event_loop.EventLoop.watch"
OUTPUT_ONLY = "arguments[2].__name__ == 'ready'"


def test_a_command_ends_although_its_output_cannot_be_watched(make_rig: MakeRig) -> None:
    rig = make_rig(WATCH, condition=OUTPUT_ONLY)
    short = rig.spawn("echo out; exit 3")
    timed = rig.spawn("echo out; exec sleep 3600", timeout_seconds=0.2, grace_seconds=0)
    stopped = rig.spawn("echo out; exec sleep 3600")
    rig.wait_for(stopped, Kind.STARTED)
    rig.send({"type": "stop", "id": stopped, "signal": "SIGTERM", "grace_seconds": 0})
    status = rig.wait_for(short, Kind.EXITED).fields()["status"]
    assert os.waitstatus_to_exitcode(status) == 3
    for command in (short, timed, stopped):
        rig.wait_for(command, Kind.CLOSED)
        assert rig.kinds(command).count(Kind.STARTED) == 1
    assert rig.output_bytes(short) == 4


def test_output_is_read_once_it_can_be_watched(make_rig: MakeRig, fault: Path) -> None:
    rig = make_rig(WATCH, condition=OUTPUT_ONLY)
    gate = Gate(rig)
    command = rig.spawn(f"echo out; {gate.block}")
    rig.wait_for(command, Kind.STARTED)
    fault.unlink()
    rig.wait_for(command, Kind.OUTPUT)
    gate.open()
    rig.wait_for(command, Kind.CLOSED)


LOOK = "scriptservice.keeper.tree.descent.DescentTree.is_empty"


def test_no_upgrade_while_a_command_waits_for_another_attempt(
    make_rig: MakeRig, fault: Path
) -> None:
    rig = make_rig(LOOK)
    rig.send({"type": "ready"}, {"type": "adopted"})
    command = rig.spawn("exit 3")
    rig.wait_for(command, Kind.EXITED)
    rig.process.send_signal(signal.SIGHUP)
    rig.upgrade_child(PROTOCOL_VERSION)
    rig.send({"type": "ready"}, {"type": "adopted"})
    eventually(lambda: "cannot be handed over" in rig.log(), "a failed upgrade")
    assert Kind.CLOSED not in rig.kinds(command)
    fault.unlink()
    rig.wait_for(command, Kind.CLOSED)
    rig.process.send_signal(signal.SIGHUP)
    rig.upgrade_child(PROTOCOL_VERSION)
    rig.send({"type": "ready"}, {"type": "adopted"})
    eventually(lambda: " upgraded " in rig.log(), "an upgrade")


REFUSE = "scriptservice.keeper.command.start_queue.StartQueue._refuse_start"


def test_a_refusal_that_fails_once_is_recorded(make_rig: MakeRig) -> None:
    rig = make_rig(REFUSE, once=True)
    command = rig.spawn("echo never", ["/no/such/interpreter"])
    rig.wait_for(command, Kind.REFUSED)
    assert rig.kinds(command) == [Kind.STARTING, Kind.REFUSED]


UNDO = "scriptservice.keeper.spawn.new_process.SpawnResources._kill"
WATCH_COMMAND = "scriptservice.keeper.command.command.RunningCommand.watch"


def test_a_start_that_cannot_be_undone_is_not_made_again(make_rig: MakeRig, fault: Path) -> None:
    rig = make_rig(WATCH_COMMAND, UNDO)
    command = rig.spawn("echo x >>ran")
    rig.wait_for(command, Kind.REFUSED)
    fault.unlink()
    rig.wait_for(rig.spawn("true"), Kind.CLOSED)
    assert rig.kinds(command) == [Kind.STARTING, Kind.REFUSED]
    ran = rig.data_dir / "work" / "ran"
    assert not ran.exists() or ran.read_text() == "x\n"


OUTSIDE = """
from scriptservice.keeper.tree.cgroup import CgroupTree
opened = CgroupTree.open_join_file
def open_nothing(tree, command_id, limits):
    os.close(opened(tree, command_id, limits))
    return os.open(os.devnull, os.O_WRONLY)
CgroupTree.open_join_file = open_nothing
CgroupTree.can_be_left_by = lambda tree, uid: False
"""
"""Lets no process join its cgroup, as if it had not come so far yet."""


@pytest.mark.needs_cgroup
def test_a_stop_ends_a_process_that_has_not_joined_its_cgroup() -> None:
    rig = Rig(injection=OUTSIDE, use_cgroups=True)
    try:
        command = rig.spawn("trap '' TERM; echo up; while :; do sleep 0.1; done")
        rig.wait_for(command, Kind.OUTPUT)
        rig.send({"type": "stop", "id": command, "signal": "SIGTERM", "grace_seconds": 0})
        status = rig.wait_for(command, Kind.EXITED).fields()["status"]
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        rig.wait_for(command, Kind.CLOSED)
    finally:
        rig.close()
