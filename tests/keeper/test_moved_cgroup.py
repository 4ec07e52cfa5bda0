"""Scripts of root, or of the owner of the cgroup, may leave their cgroup; the stop finds them."""

from collections.abc import Iterator

import pytest

from scriptservice.keeper.tree.cgroup import own_cgroup
from scriptservice.protocol.journal_format import Kind
from support.rig import Rig
from support.scripts import unique_seconds
from support.service import processes_with

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroup]

SCRIPTS = {
    "itself": "echo $$ >{outside}; echo up; exec sleep {mark}",
    "child": "sleep {mark} & echo $! >{outside}; echo up; wait",
    "child-of-a-child": "(setsid sleep {mark} & echo $! >{outside}; echo up; wait) & wait",
}


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig(use_cgroups=True)
    yield made
    made.close()


@pytest.fixture
def mark() -> Iterator[str]:
    made = unique_seconds()
    yield made
    for process in processes_with(made):
        process.kill()


def outside() -> str:
    """Return the file that moves a process out of its script's cgroup."""
    return f"{own_cgroup()}/cgroup.procs"


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_stop_ends_a_process_that_left_its_cgroup(rig: Rig, mark: str, script: str) -> None:
    command = rig.spawn(script.format(mark=mark, outside=outside()))
    rig.wait_for(command, Kind.OUTPUT)
    rig.send({"type": "stop", "id": command, "signal": "SIGTERM", "grace_seconds": 0})
    rig.wait_for(command, Kind.CLOSED)
    assert processes_with(mark) == []


def test_a_leftover_that_left_its_cgroup_is_ended(rig: Rig, mark: str) -> None:
    script = f"sleep {mark} >/dev/null 2>&1 & echo $! >{outside()}; exit 0"
    command = rig.spawn(script, leftover_seconds=0)
    rig.wait_for(command, Kind.CLOSED)
    assert processes_with(mark) == []
