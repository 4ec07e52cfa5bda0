"""The state machine's tests: any order of events, in a world without processes."""

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from scriptservice.keeper.life.events import Exited, Removed, Started, Woke
from scriptservice.keeper.life.life import Phase
from support.life_world import GRACE_SECONDS, World

SECONDS = st.sampled_from([0.0, 0.01, 0.3, 1.0, 2.5, 6.0, 20.0])
GRACES = st.sampled_from([0.0, 0.5, GRACE_SECONDS, 60.0])


class Lives(RuleBasedStateMachine):
    """Any order of events, at any time."""

    world: World

    @initialize(timeout=st.sampled_from([None, 0.5, 3.0]), private=st.booleans())
    def begin(self, timeout: float | None, private: bool) -> None:
        self.world = World(timeout_seconds=timeout, has_private_directory=private)

    @rule()
    def exec_succeeds(self) -> None:
        self.world.exec_succeeds()

    @rule()
    def exec_fails(self) -> None:
        self.world.exec_fails()

    @rule()
    def script_exits(self) -> None:
        self.world.script_exits()

    @rule()
    def the_keeper_reaps(self) -> None:
        self.world.reap()

    @precondition(lambda self: self.world.process == "script")
    @rule(ignores=st.booleans(), unkillable=st.booleans())
    def script_forks(self, ignores: bool, unkillable: bool) -> None:
        self.world.forks(ignores_sigterm=ignores or unkillable, is_unkillable=unkillable)

    @precondition(lambda self: self.world.leftovers)
    @rule()
    def leftover_ends(self) -> None:
        self.world.leftover_ends()

    @rule()
    def script_ignores_sigterm(self) -> None:
        self.world.ignores()

    @rule(cause=st.sampled_from(["stop", "shutdown"]), grace=GRACES)
    def stop(self, cause: str, grace: float) -> None:
        self.world.stop(cause, grace)

    @precondition(lambda self: self.world.life.phase is Phase.RUNNING)
    @rule()
    def output_limit(self) -> None:
        self.world.stop("limit", GRACE_SECONDS)

    @rule(held=st.booleans())
    def pipe_is_held(self, held: bool) -> None:
        self.world.hold(held=held)

    @rule()
    def journal_fills(self) -> None:
        self.world.journal_full = True

    @rule()
    def journal_has_room(self) -> None:
        self.world.room()

    @rule()
    def removed(self) -> None:
        self.world.removed()

    @rule()
    def descriptors_run_short(self) -> None:
        self.world.is_short = True

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.world.passes(seconds)

    @rule()
    def events_come_twice(self) -> None:
        """An event that is reported again, or wakes too early, changes nothing."""
        world = self.world
        before = world.life, list(world.records)
        if world.process == "reaped":
            world.happens(Exited({}))
        if world.process in ("script", "reaped") and world.life.phase is not Phase.STARTING:
            world.happens(Started())
        if world.life.phase is not Phase.REMOVING:
            world.happens(Removed())
        if world.life.wake_at is None or world.life.wake_at > world.now:
            world.happens(Woke())
        assert (world.life, world.records) == before

    @invariant()
    def something_will_happen(self) -> None:
        if hasattr(self, "world"):
            assert self.world.is_expected, self.world

    @invariant()
    def a_stop_has_its_first_cause(self) -> None:
        if hasattr(self, "world") and self.world.cause is not None:
            assert self.world.cause == self.world.life.cause

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.finish()


def lead_lives(examples: int, machine: type[Lives] = Lives) -> None:
    """Lead this many lives of random events."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            database=None,
            derandomize=not os.environ.get("HYPOTHESIS_RANDOM"),
            suppress_health_check=list(HealthCheck),
        ),
    )
