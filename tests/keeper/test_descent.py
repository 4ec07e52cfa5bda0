"""The command of an orphan without cgroups, from the first read of the process; reused ids."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from scriptservice.keeper.spawn.spawner import COMMAND_ID_VARIABLE
from scriptservice.keeper.system.linux import (
    ProcessStat,
    child_pids,
    process_environment,
    process_stat,
)
from scriptservice.keeper.tree.descent import DescentTree
from scriptservice.keeper.tree.ownership import Ownership, add_descendants
from scriptservice.keeper.upgrade_state import TreeState
from support.service import PATIENCE_SECONDS, eventually

READS = 4_000  # Some fifty of them fall into an exec.
EXECS = 'exec /bin/bash -c "$PROGRAM"'


@dataclass
class Script:
    """A script whose own process has ended."""

    id: str
    pid: int | None = None
    start_ticks: int = 0
    exited: bool = True


MINE, OTHER = Script("0199c0de-0000-7000-8000-000000000001"), Script("another")


def new_tree(*scripts: Script) -> DescentTree:
    """Return a tree that has seen no process yet, with this process as the keeper."""
    return DescentTree(set, lambda: scripts, os.getuid(), TreeState(mode=DescentTree.mode))


@pytest.fixture
def orphan() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own that executes one program after the other."""
    variables = {"PROGRAM": EXECS, COMMAND_ID_VARIABLE: MINE.id}
    with subprocess.Popen(["/bin/bash", "-c", EXECS], env=variables, start_new_session=True) as it:
        eventually(lambda: b"PROGRAM" in (process_environment(it.pid) or b""), "its first exec")
        yield it
        it.kill()


def test_an_orphan_in_an_exec_does_not_count_as_gone(
    orphan: subprocess.Popen[bytes],
) -> None:
    assert not any(new_tree(MINE, OTHER).is_empty(MINE) for _ in range(READS))


def test_an_orphan_in_an_exec_may_belong_to_any_script(orphan: subprocess.Popen[bytes]) -> None:
    seen: set[bool] = set()

    def both_seen() -> bool:
        seen.update(new_tree(MINE, OTHER).is_empty(OTHER) for _ in range(1000))
        return len(seen) == 2

    eventually(both_seen, "both answers")
    assert orphan.poll() is None


def test_an_orphan_whose_command_is_found_later_is_killed(
    orphan: subprocess.Popen[bytes],
) -> None:
    tree = new_tree(MINE, OTHER)
    eventually(lambda: tree.kill(MINE).empty, "the orphan to be gone")
    assert orphan.wait(PATIENCE_SECONDS) == -9


@pytest.fixture
def family() -> Iterator[tuple[ProcessStat, ProcessStat]]:
    """A process that leads a session, and a child of this process; no script has started them."""
    program = "import os, time; os.fork(); time.sleep(3600)"
    with subprocess.Popen([sys.executable, "-c", program], start_new_session=True) as parent:
        (pid,) = eventually(lambda: child_pids(parent.pid), "the child")
        stats = process_stat(parent.pid), process_stat(pid)
        assert stats[0] is not None
        assert stats[1] is not None
        yield stats[0], stats[1]
        os.kill(pid, signal.SIGKILL)
        parent.kill()


def test_children_of_the_same_process_are_found(family: tuple[ProcessStat, ProcessStat]) -> None:
    parent, child = family
    members = {parent.pid: parent}
    add_descendants(members)
    assert members.keys() == {parent.pid, child.pid}


def test_children_of_a_process_that_got_a_reused_id_are_not_found(
    family: tuple[ProcessStat, ProcessStat],
) -> None:
    parent, _ = family
    earlier = replace(parent, start_ticks=parent.start_ticks - 1)
    members = {parent.pid: earlier}
    add_descendants(members)
    assert members == {parent.pid: earlier}


@pytest.mark.parametrize("exited", [True, False])
def test_a_session_that_got_a_reused_id_is_not_killed(
    family: tuple[ProcessStat, ProcessStat], exited: bool
) -> None:
    parent, child = family
    script = Script(MINE.id, parent.pid, parent.start_ticks - 1, exited)
    tree = new_tree(script)
    eventually(lambda: tree.kill(script).empty, "an empty tree")
    assert process_stat(parent.pid) is not None
    assert process_stat(child.pid) is not None
    assert os.waitpid(parent.pid, os.WNOHANG) == (0, 0)


def test_the_session_of_a_stranger_is_not_remembered(
    family: tuple[ProcessStat, ProcessStat],
) -> None:
    """A process in it may have a command's id in its environment nevertheless."""
    parent, child = family
    ownership = Ownership(lambda: [MINE])
    ownership.note(MINE.id, [child])
    assert ownership.sessions[MINE.id] == set()
    ownership.note(MINE.id, [parent, child])
    assert ownership.sessions[MINE.id] == {parent.session}


def test_the_session_of_an_ended_script_is_killed(family: tuple[ProcessStat, ProcessStat]) -> None:
    parent, child = family
    script = Script(MINE.id, parent.pid, parent.start_ticks)
    tree = new_tree(script)
    eventually(lambda: tree.kill(script).empty, "an empty tree")

    def is_gone(pid: int) -> bool:
        stat = process_stat(pid)
        return stat is None or stat.dead

    # This process is no sub-reaper. So the child is init's when its parent is dead, and the tree
    # cannot see whether the child has died of its SIGKILL already.
    eventually(lambda: is_gone(parent.pid) and is_gone(child.pid), "both to be gone")
