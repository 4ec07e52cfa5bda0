"""Traces of the state machine, replayed with real processes."""

import functools
from pathlib import Path
from typing import Any

import pytest

from support.life_replay import replay_all
from support.life_world import World
from support.lives import Lives, lead_lives
from support.rig import Rig

LIVES = 400
TRACES = 150
"""This many are replayed in each of the two modes."""
FAILED = 10


@functools.cache
def traces() -> list[list[tuple[Any, ...]]]:
    """Return the traces of the lives in which the most different things happen."""
    worlds: list[World] = []

    class Recorded(Lives):
        def teardown(self) -> None:
            if hasattr(self, "world"):
                worlds.append(self.world)

    lead_lives(LIVES, Recorded)
    found = [world.trace for world in worlds]
    failed = [trace for trace in found if ("exec_fails",) in trace]
    started = [trace for trace in found if ("exec_fails",) not in trace]
    return [*failed[:FAILED], *sorted(started, key=variety, reverse=True)[:TRACES]]


def variety(trace: list[tuple[Any, ...]]) -> tuple[int, int]:
    return len({name for name, *_ in trace}), len(set(trace))


@pytest.mark.parametrize(
    "use_cgroups",
    [False, pytest.param(True, marks=pytest.mark.needs_cgroup)],
    ids=["walk", "cgroup"],
)
def test_real_processes_live_as_the_state_machine_says(use_cgroups: bool, tmp_path: Path) -> None:
    rig = Rig(use_cgroups=use_cgroups)
    try:
        replay_all(rig, traces(), tmp_path)
    finally:
        rig.close()
