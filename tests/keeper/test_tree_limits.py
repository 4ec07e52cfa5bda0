"""Limits of whole process trees: the layout of cgroups, what is refused, and who is killed.

Where the kernel offers no controllers, the tests still use the real hierarchy: they let the keeper
make the directories without enabling anything.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from scriptservice.keeper.tree.cgroup import own_cgroup
from scriptservice.keeper.tree.controllers import limited_directory, memory_kill
from scriptservice.protocol.frames import PROTOCOL_VERSION
from scriptservice.protocol.journal_format import Kind
from support.gates import Gate
from support.rig import Rig
from support.scripts import cgroup_of, unique_seconds
from support.service import eventually, processes_with

WITHOUT_CONTROLLERS = """
import os
from scriptservice.keeper.tree import cgroup, controllers
def make_directory(base, remove):
    os.mkdir(controllers.limited_directory(base))
    return controllers.TREE_LIMITS
cgroup.enable_controllers = make_directory
cgroup.set_limits = lambda path, limits: None
"""
"""Lets the keeper use the layout with limits on a machine that has no controllers."""

LIMITS = {"memory_bytes": 1 << 30, "processes": 50}


def limited_rig(**settings: Any) -> Rig:
    made = Rig(injection=WITHOUT_CONTROLLERS, use_cgroups=True, **settings)
    made.send({"type": "ready"}, {"type": "adopted"})
    return made


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = limited_rig()
    yield made
    made.close()


def base_of(rig: Rig) -> str:
    return f"{own_cgroup()}/{cgroup_of(rig.process.pid)}"


def path_of(rig: Rig, command: str) -> Path:
    return Path(limited_directory(base_of(rig)), command)


# What is refused


def test_a_script_does_not_run_without_a_limit_that_it_must_have() -> None:
    """The command may have waited for a keeper that has other controllers."""
    rig = Rig()
    try:
        for limits, name in (
            (LIMITS, "memory_bytes"),
            ({"processes": 5}, "processes"),
            ({"nice": 1, "colours": 5}, "colours"),
        ):
            command = rig.spawn("echo x >ran", limits=limits)
            refused = rig.wait_for(command, Kind.REFUSED).fields()
            assert refused["reason"].startswith(f"cannot set the limit {name}: this host has no")
            assert not refused["retry"]
        assert not (rig.data_dir / "work" / "ran").exists()
    finally:
        rig.close()


@pytest.mark.needs_cgroup
def test_a_limit_that_the_kernel_refuses_is_tried_again(tmp_path: Path) -> None:
    injection = f"""{WITHOUT_CONTROLLERS}
def refuse(path, limits):
    if not os.path.exists({str(tmp_path / "works")!r}):
        raise OSError(30, "Read-only file system")
cgroup.set_limits = refuse
"""
    rig = Rig(injection=injection, use_cgroups=True)
    try:
        command = rig.spawn("true", limits=LIMITS)
        refused = rig.wait_for(command, Kind.REFUSED).fields()
        assert (refused["reason"], refused["retry"]) == (
            "cannot make its cgroup: Read-only file system", True
        )  # fmt: skip
        assert not path_of(rig, command).exists()
        (tmp_path / "works").touch()
        rig.wait_for(rig.spawn("true", limits=LIMITS), Kind.CLOSED)
    finally:
        rig.close()


# Where the cgroups are


@pytest.mark.needs_cgroup
def test_a_command_with_limits_has_its_cgroup_beside_the_others(rig: Rig) -> None:
    gate = Gate(rig)
    limited = rig.spawn(gate.wait, limits=LIMITS)
    plain = rig.spawn(gate.wait, limits={"nice": 1})
    for command in (limited, plain):
        rig.wait_for(command, Kind.STARTED)
    assert path_of(rig, limited).is_dir()
    assert Path(base_of(rig), plain).is_dir()
    gate.open()
    for command in (limited, plain):
        rig.wait_for(command, Kind.CLOSED)
    assert not path_of(rig, limited).exists()
    base = base_of(rig)
    rig.process.terminate()
    rig.receive("finish")
    rig.end_child()
    rig.process.wait()
    assert not Path(base).exists()
    assert not Path(limited_directory(base)).exists()


LEAVER = "trap '' TERM; (setsid sleep {mark} &) ; echo up; exec sleep {mark}"


@pytest.mark.needs_cgroup
def test_a_stop_leaves_nobody_of_a_command_with_limits(rig: Rig) -> None:
    mark = unique_seconds()
    command = rig.spawn(LEAVER.format(mark=mark), limits=LIMITS)
    rig.wait_for(command, Kind.OUTPUT)
    eventually(lambda: len(processes_with(mark)) == 2, "its tree")
    rig.send({"type": "stop", "id": command, "signal": "SIGTERM", "grace_seconds": 0})
    rig.wait_for(command, Kind.CLOSED)
    assert processes_with(mark) == []


@pytest.mark.needs_cgroup
def test_commands_with_limits_survive_a_hand_over(rig: Rig) -> None:
    """The keeper's next program has no controllers here, as after one of an earlier release."""
    mark = unique_seconds()
    command = rig.spawn(LEAVER.format(mark=mark), limits=LIMITS)
    rig.wait_for(command, Kind.OUTPUT)
    rig.process.send_signal(signal.SIGHUP)
    rig.upgrade_child(PROTOCOL_VERSION)
    rig.send({"type": "ready"}, {"type": "adopted"})
    eventually(lambda: " upgraded " in rig.log(), "the hand-over")
    rig.send({"type": "ping", "number": 1})
    assert rig.receive("pong")["limits"] == ["cpu_seconds", "open_files", "nice"]
    rig.send({"type": "stop", "id": command, "signal": "SIGTERM", "grace_seconds": 0})
    rig.wait_for(command, Kind.CLOSED)
    assert processes_with(mark) == []
    assert not path_of(rig, command).exists()


RECOVER = """
import sys
from scriptservice.keeper.recovery import recover
from scriptservice.keeper.system.identity import Identity
writer = recover(sys.argv[1], Identity.current(), None, reserve_bytes=0, snapshot=dict,
                 should_end=lambda: False)
writer.close()
"""


@pytest.mark.needs_cgroup
def test_the_next_keeper_finds_the_commands_with_limits_of_a_dead_one(rig: Rig) -> None:
    """The process without its session and environment can only be found by its cgroup."""
    mark = unique_seconds()
    script = f"(setsid env -i sleep {mark} &); echo up; exec sleep {mark}"
    commands = [rig.spawn(script, limits=limits) for limits in (LIMITS, {})]
    for command in commands:
        rig.wait_for(command, Kind.OUTPUT)
    eventually(lambda: len(processes_with(mark)) == 4, "their trees")
    base = base_of(rig)
    rig.process.kill()
    rig.process.wait()
    journal = str(rig.data_dir / "journal")
    subprocess.run([sys.executable, "-c", RECOVER, journal], check=True)
    assert processes_with(mark) == []
    for command in commands:
        rig.wait_for(command, Kind.LOST)
    assert not Path(base).exists()
    assert not Path(limited_directory(base)).exists()


# The leaf


@pytest.fixture
def unit() -> Iterator[Path]:
    """A cgroup as that of a systemd unit, which a program enters by itself."""
    path = Path(str(own_cgroup())) / f"scriptservice-test-{uuid4()}"
    path.mkdir()
    yield path
    (path / "cgroup.kill").write_text("1")
    eventually(lambda: "populated 0" in (path / "cgroup.events").read_text(), "it to be empty")
    for inner, _, _ in os.walk(path, topdown=False):
        os.rmdir(inner)


ENTER = """
import json, os, subprocess, sys
from contextlib import ExitStack
from scriptservice.keeper.tree.cgroup import CgroupTree, own_cgroup, remove_cgroup
from scriptservice.keeper.tree.controllers import enter_leaf
unit = sys.argv[1]
with open(unit + "/cgroup.procs", "w") as procs:
    procs.write("0")
def procs(name=""):
    with open(f"{unit}/{name}/cgroup.procs") as file:
        return sorted(map(int, file.read().split()))
child = subprocess.Popen(["sleep", "3600"])
found = {"pids": sorted([os.getpid(), child.pid])}
"""

MOVES = """
undo = ExitStack()
enter_leaf(unit, remove_cgroup, undo)
found["inside"] = [procs(), procs("service")]
undo.close()
found["undone"] = [procs(), os.path.exists(unit + "/service")]
with ExitStack() as kept:
    enter_leaf(unit, remove_cgroup, kept)
    kept.pop_all()
with ExitStack() as kept:  # as after an upgrade in place
    enter_leaf(unit, remove_cgroup, kept)
    kept.pop_all()
found["own"] = os.path.relpath(own_cgroup(), unit)
found["after"] = [procs(), procs("service")]
child.kill()
print(json.dumps(found))
"""


def run_inside(unit: Path, program: str, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-c", ENTER + program, str(unit), *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


@pytest.mark.needs_cgroup
def test_the_keeper_and_its_children_move_to_a_leaf_and_back(unit: Path) -> None:
    found = run_inside(unit, MOVES)
    pids = found["pids"]
    assert found["inside"] == [[], pids]
    assert found["undone"] == [pids, False]
    assert (found["own"], found["after"]) == ("service", [[], pids])


FOREIGN = """
try:
    with ExitStack() as undo:
        enter_leaf(unit, remove_cgroup, undo)
except OSError as error:
    found["error"] = str(error)
found["left"] = [os.getpid() in procs(), os.path.exists(unit + "/service")]
child.kill()
print(json.dumps(found))
"""


@pytest.mark.needs_cgroup
def test_processes_of_others_in_the_same_cgroup_are_not_moved(unit: Path) -> None:
    with subprocess.Popen(["sleep", "3600"]) as foreign:
        (unit / "cgroup.procs").write_text(str(foreign.pid))
        found = run_inside(unit, FOREIGN)
        foreign.kill()
    assert found["error"] == (
        f"process {foreign.pid} in the same cgroup does not belong to the service"
    )
    assert found["left"] == [True, False]


ENABLE = """
from scriptservice.keeper.tree import cgroup, controllers
name = sys.argv[2]
controllers._CONTROLLERS = {"memory_bytes": name}  # its own limits have other files
def state():
    enabled = []
    for directory in ("", "commands", "commands.limited"):
        path = f"{unit}/{directory}/cgroup.subtree_control"
        enabled.append(open(path).read().split() if os.path.exists(path) else None)
    return [procs(), procs("service") if os.path.exists(unit + "/service") else None, enabled]
tree = CgroupTree(unit + "/commands")
with os.fdopen(tree.open_join_file("a", {}), "w") as join:
    command = subprocess.Popen(["sleep", "3600"])
    join.write(str(command.pid))
def refuse(path, limits):
    assert any(each.startswith(name) for each in os.listdir(path))
    raise OSError(22, "refused")
controllers.set_limits = refuse
found["before"] = state()
tree.enable_limits()
found["refused"] = [list(tree.limits), *state()]
controllers.set_limits = cgroup.set_limits = lambda path, limits: None
for key in ("enabled", "again"):
    tree = CgroupTree(unit + "/commands")
    tree.enable_limits()
    found[key] = [list(tree.limits), *state()]
os.close(tree.open_join_file("b", {"memory_bytes": 1}))
found["paths"] = [os.path.relpath(tree.path(each), unit) for each in "ab"]
found["in a"] = procs("commands/a") == [command.pid]
command.kill()
child.kill()
print(json.dumps(found))
"""


@pytest.fixture
def controller() -> Iterator[str | None]:
    """A controller that the unit may enable for the cgroups below it; None if there is none."""
    own = Path(str(own_cgroup()))
    offered = (own / "cgroup.controllers").read_text().split()
    names = [name for name in ("hugetlb", "memory", "misc", "io") if name in offered]
    is_root = not (own / "cgroup.type").exists()
    if not names or not is_root:
        yield None
        return
    control = own / "cgroup.subtree_control"
    was_enabled = names[0] in control.read_text().split()
    control.write_text(f"+{names[0]}")
    yield names[0]
    if not was_enabled:
        with contextlib.suppress(OSError):  # Another test may use it too.
            control.write_text(f"-{names[0]}")


@pytest.mark.needs_root
@pytest.mark.needs_cgroup
def test_controllers_are_enabled_or_everything_stays_as_it_was(
    controller: str | None, unit: Path
) -> None:
    """Commands of a keeper without limits run already, as at an upgrade from an earlier release."""
    found = run_inside(unit, ENABLE, str(controller))
    pids = found["pids"]
    assert found["before"] == [pids, None, [[], [], None]]
    assert found["refused"] == [[], *found["before"]]
    if controller is None:
        assert found["again"] == found["enabled"] == [[], *found["before"]]
        return
    enabled = [["memory_bytes"], [], pids, [[controller], [], [controller]]]
    assert found["again"] == found["enabled"] == enabled
    assert found["paths"] == ["commands/a", "commands.limited/b"]
    assert found["in a"]


READ_ONLY = """
tree = CgroupTree(unit + "/commands")
class Root:
    id, pid, start_ticks, exited = "first", None, 0, False
join = tree.open_join_file("first", {})
os.write(join, b"0")
os.close(join)
inner = subprocess.Popen(["sleep", "3600"])
with open(unit + "/cgroup.procs", "w") as file:
    file.write("0")
mount = os.path.dirname(unit)
subprocess.run(["mount", "--bind", mount, mount], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", mount], check=True)
try:
    tree.open_join_file("second", {})
except OSError as error:
    found["second"] = error.strerror
tree.kill(Root)
found["killed"] = inner.wait()
found["empty"] = tree.is_empty(Root)
tree.forget(Root)
child.kill()
print(json.dumps(found))
"""


@pytest.mark.needs_mounts
@pytest.mark.needs_cgroup
def test_a_hierarchy_that_becomes_read_only_stops_no_kill(unit: Path) -> None:
    words = ["unshare", "--mount", sys.executable, "-c", ENTER + READ_ONLY, str(unit)]
    found = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)
    assert found["second"] == "Read-only file system"
    assert (found["killed"], found["empty"]) == (-signal.SIGKILL, True)


# What the kernel reports


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n", None),
        ("max 31\noom 1\noom_kill 0\n", None),
        ("max 31\noom 2\noom_kill 3\noom_group_kill 1\n", True),
        ("max 0\noom 0\noom_kill 1\n", False),
    ],
)
def test_the_cause_of_a_kill_for_memory(
    tmp_path: Path, text: str | None, expected: bool | None
) -> None:
    if text is not None:
        (tmp_path / "memory.events").write_text(text)
    assert memory_kill(str(tmp_path)) is expected
