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


SHORTAGE = """
import errno, os, select
import scriptservice.keeper.spawn.spawner as spawner

def may_fail(module, name):
    original = getattr(module, name)
    def failing(*arguments, **named):
        try:
            with open({path!r}) as file:
                wanted, error = file.read().split()
        except (FileNotFoundError, ValueError):
            return original(*arguments, **named)
        if wanted != name:
            return original(*arguments, **named)
        os.unlink({path!r})
        raise MemoryError if error == "MemoryError" else OSError(getattr(errno, error), "injected")
    setattr(module, name, failing)

for name in ("pidfd_open", "pipe2", "memfd_create", "posix_spawn", "fork", "mkdir", "open"):
    may_fail(os, name)
may_fail(spawner, "input_file")
may_fail(spawner, "process_stat")
spawner.boot_ticks = iter(range(10**9)).__next__  # so that each start reads /proc

class FullEpoll:
    def __init__(self, made=select.epoll):
        self._epoll = made()
        for name in ("poll", "modify", "unregister"):
            setattr(self, name, getattr(self._epoll, name))
    def register(self, descriptor, events):
        if os.path.exists({path!r}):
            raise OSError(errno.ENOSPC, "injected")
        self._epoll.register(descriptor, events)

select.epoll = FullEpoll
"""
"""Lets the call that a file names fail once, as it fails when something is used up. While the file
exists, the kernel accepts no more watches.
"""


@pytest.fixture
def make_short_rig(fault: Path) -> Iterator[MakeRig]:
    made: list[Rig] = []

    def make(**settings: bool) -> Rig:
        fault.unlink()
        made.append(Rig(injection=SHORTAGE.format(path=str(fault)), **settings))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


def let_fail(fault: Path, call: str, error: str) -> None:
    draft = fault.with_suffix(".new")
    draft.write_text(f"{call} {error}")
    draft.rename(fault)


USED_UP = ("EMFILE", "ENFILE", "ENOMEM")
BEFORE = (
    ("pipe2", "EMFILE"), ("open", "ENFILE"), ("memfd_create", "ENOMEM"), ("mkdir", "ENOSPC"),
    ("posix_spawn", "EAGAIN"), ("posix_spawn", "ENOMEM"), ("input_file", "MemoryError"),
)  # fmt: skip


def test_what_is_used_up_before_a_process_is_made_lets_it_wait(
    make_short_rig: MakeRig, fault: Path
) -> None:
    rig = make_short_rig()
    for call, error in BEFORE:
        let_fail(fault, call, error)
        command = rig.spawn("exit 3", working_directory="private")
        assert rig.wait_for(command, Kind.REFUSED).fields()["retry"] is True, (call, error)
        assert rig.kinds(command) == [Kind.STARTING, Kind.REFUSED]
    rig.wait_for(rig.spawn("true"), Kind.CLOSED)


def test_a_fork_waits_for_a_process(make_short_rig: MakeRig, fault: Path) -> None:
    rig = make_short_rig(use_launcher=False)
    for error in ("EAGAIN", "ENOMEM"):
        let_fail(fault, "fork", error)
        command = rig.spawn("exit 3")
        assert rig.wait_for(command, Kind.REFUSED).fields()["retry"] is True


def test_a_process_that_was_made_needs_no_more_room(make_short_rig: MakeRig, fault: Path) -> None:
    """The script may run already, so a shortage must not fail its command."""
    rig = make_short_rig()
    for call in ("process_stat", "pidfd_open"):
        for error in USED_UP:
            let_fail(fault, call, error)
            command = rig.spawn("exit 3")
            rig.wait_for(command, Kind.CLOSED)
            whole = [Kind.STARTING, Kind.STARTED, Kind.EXITED, Kind.CLOSED]
            assert rig.kinds(command) == whole, (call, error)
            assert not fault.exists()


def test_a_script_runs_and_ends_while_the_kernel_accepts_no_more_watches(
    make_short_rig: MakeRig, fault: Path
) -> None:
    rig = make_short_rig()
    fault.touch()
    command = rig.spawn("echo out; exit 3")
    status = rig.wait_for(command, Kind.EXITED).fields()["status"]
    assert os.waitstatus_to_exitcode(status) == 3
    fault.unlink()
    rig.wait_for(command, Kind.CLOSED)
    assert rig.kinds(command).count(Kind.STARTED) == 1
    assert rig.output_bytes(command) == 4
