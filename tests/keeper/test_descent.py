"""The command of an orphan without cgroups, from the first read of the process."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from scriptservice.keeper.spawn.spawner import COMMAND_ID_VARIABLE
from scriptservice.keeper.system.linux import process_environment
from scriptservice.keeper.tree.descent import DescentTree
from scriptservice.keeper.upgrade_state import TreeState
from support.service import PATIENCE_SECONDS, eventually

READS = 4_000  # Some fifty of them fall into an exec.
EXECS = 'exec /bin/bash -c "$PROGRAM"'


@dataclass
class Script:
    """A script whose own process has ended."""

    id: str
    pid: int = 0
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
    eventually(lambda: tree.kill(MINE), "the orphan to be gone")
    assert orphan.wait(PATIENCE_SECONDS) == -9
