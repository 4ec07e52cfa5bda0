"""Whose orphans are, told without cgroups: by one look at a process that is nobody's child."""

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

LOOKS = 4_000  # of which some fifty fall into an exec
EXECS = 'exec /bin/bash -c "$PROGRAM"'


@dataclass
class Script:
    """A script whose own process has ended."""

    id: str
    pid: int = 0
    exited: bool = True


MINE, OTHER = Script("0199c0de-0000-7000-8000-000000000001"), Script("another")


def first_look(*scripts: Script) -> DescentTree:
    """Return a tree that has seen nobody yet, for which this process is the keeper."""
    return DescentTree(set, lambda: scripts, os.getuid(), TreeState(mode=DescentTree.mode))


@pytest.fixture
def orphan() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own that replaces its program for ever."""
    variables = {"PROGRAM": EXECS, COMMAND_ID_VARIABLE: MINE.id}
    with subprocess.Popen(["/bin/bash", "-c", EXECS], env=variables, start_new_session=True) as it:
        eventually(lambda: b"PROGRAM" in (process_environment(it.pid) or b""), "its first exec")
        yield it
        it.kill()


def test_nobody_is_taken_for_gone_who_is_in_the_midst_of_an_exec(
    orphan: subprocess.Popen[bytes],
) -> None:
    assert not any(first_look(MINE, OTHER).is_empty(MINE) for _ in range(LOOKS))


def test_until_it_is_known_whose_it_is_it_may_be_anybodys(orphan: subprocess.Popen[bytes]) -> None:
    seen: set[bool] = set()

    def both_seen() -> bool:
        seen.update(first_look(MINE, OTHER).is_empty(OTHER) for _ in range(1000))
        return len(seen) == 2

    eventually(both_seen, "looks with either answer")
    assert orphan.poll() is None


def test_it_is_killed_though_it_could_not_be_told_at_first(
    orphan: subprocess.Popen[bytes],
) -> None:
    tree = first_look(MINE, OTHER)
    eventually(lambda: tree.kill(MINE), "the orphan to be gone")
    assert orphan.wait(PATIENCE_SECONDS) == -9
