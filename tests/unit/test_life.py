"""The state machine of a command's life: every order of events, in a world without processes."""

import pytest

from scriptservice.keeper.life.events import Looked
from scriptservice.keeper.life.kept_command import KeptCommand
from scriptservice.keeper.life.life import (
    DECIDE_SECONDS,
    FAILED_SECONDS,
    LEFTOVER_KILL_SECONDS,
    REMOVAL_SECONDS,
    Life,
    Phase,
    step,
)
from support.life_world import GRACE_SECONDS, LEFTOVER_SECONDS, Leftover, World
from support.lives import lead_lives


def test_every_order_of_events_ends_well() -> None:
    lead_lives(300)


@pytest.mark.long
def test_ten_thousand_orders_of_events_end_well() -> None:
    lead_lives(10_000)


def running(**options: object) -> World:
    world = World(**options)  # type: ignore[arg-type]
    world.exec_succeeds()
    return world


def test_the_short_way() -> None:
    world = running()
    assert world.life.phase is Phase.RUNNING
    world.script_exits()
    world.reap()
    assert world.life.phase is Phase.EXITED
    world.passes(0)
    assert world.records == ["STARTED", "EXITED", "CLOSED"]


def test_an_undecided_exec_counts_as_started_after_a_second() -> None:
    world = World()
    world.passes(DECIDE_SECONDS - 0.001)
    assert world.life.phase is Phase.STARTING
    world.passes(0.001)
    assert world.life.phase is Phase.RUNNING
    assert world.records == ["STARTED"]


def test_a_stop_before_the_exec_takes_effect_with_the_start() -> None:
    world = World()
    world.stop("stop", GRACE_SECONDS)
    assert (world.records, world.life.phase) == ([], Phase.STARTING)
    world.exec_succeeds()
    assert (world.records, world.process) == (["STARTED", "STOPPING"], "dead")


def test_a_stop_at_once_kills_a_process_before_its_exec() -> None:
    world = World()
    world.stop("stop", 0)
    assert world.process == "dead"
    world.reap()
    world.passes(0)
    assert world.records == ["STARTED", "STOPPING", "EXITED", "CLOSED"]


def test_a_failed_start_that_was_stopped_is_not_sent_again() -> None:
    world = World()
    world.stop("stop", GRACE_SECONDS)
    world.exec_fails()
    assert (world.records, world.life.phase) == ([], Phase.FAILED)
    world.reap()
    assert world.records == ["REFUSED"]


def test_a_failed_start_is_refused_although_its_process_does_not_end() -> None:
    world = World()
    world.exec_fails()
    world.passes(FAILED_SECONDS)
    assert world.records == ["REFUSED"]


def test_leftovers_get_their_time_then_sigterm_then_sigkill() -> None:
    world = running()
    world.leftovers = [Leftover(), Leftover(ignores_sigterm=True)]
    world.script_exits()
    world.reap()
    world.passes(LEFTOVER_SECONDS - 0.01)
    assert len(world.leftovers) == 2
    world.passes(0.02)
    assert len(world.leftovers) == 1
    world.passes(LEFTOVER_KILL_SECONDS)
    assert world.records[-1] == "CLOSED"


def test_a_process_that_may_not_be_signalled_keeps_its_command_until_a_shutdown() -> None:
    world = running()
    world.leftovers = [Leftover(ignores_sigterm=True, is_unkillable=True)]
    world.stop("stop", 0)
    world.reap()
    world.passes(3600)
    assert world.life.phase is Phase.LEFTOVERS
    assert world.life.unkillable == "process 7 of uid 0"
    world.stop("shutdown", 0)
    world.passes(0.3)
    assert world.records[-1] == "LOST"


def test_a_removal_is_waited_for_at_most_ten_seconds() -> None:
    world = running(has_private_directory=True)
    world.script_exits()
    world.reap()
    world.passes(REMOVAL_SECONDS - 0.01)
    assert world.life.phase is Phase.REMOVING
    world.passes(0.02)
    assert world.records[-1] == "CLOSED"


def test_a_closed_life_stays_closed() -> None:
    closed = Life(phase=Phase.CLOSED)
    assert step(closed, Looked(empty=True), 5) == (closed, [])


@pytest.mark.parametrize(
    ("flags", "phase", "wake_at"),
    [
        ({}, Phase.RUNNING, None),
        ({"timeout_at": 7.0}, Phase.RUNNING, 7.0),
        ({"cause": "stop", "kill_at": 9.0}, Phase.STOPPING, 9.0),
        ({"cause": "stop", "kill_at": 9.0, "killing": True}, Phase.STOPPING, 0.0),
        ({"exited": True}, Phase.LEFTOVERS, 0.0),
        ({"exited": True, "tree_gone": True}, Phase.DRAINING, 0.0),
        ({"exited": True, "tree_gone": True, "removing": True}, Phase.REMOVING, 0.0),
    ],
)
def test_the_flags_of_earlier_releases_become_a_phase(
    flags: dict[str, object], phase: Phase, wake_at: float | None
) -> None:
    older: dict[str, object] = {
        "id": "x", "exited": False, "private_directory": None, "removing": False,
        "grace_seconds": 5.0, "leftover_seconds": 2.0, "cause": None, "kill_at": None,
        "killing": False, "termed": False, "tree_gone": False, "leftover_at": 0.0,
        "leftover_pids": None, "timeout_at": None,
    }  # fmt: skip
    life = KeptCommand.present_fields(older | flags)["life"]
    assert (life["phase"], life["wake_at"]) == (phase, wake_at)
