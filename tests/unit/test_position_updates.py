"""When the keeper tells its child how far the journal reaches."""

import time
from dataclasses import dataclass

import pytest

from scriptservice.keeper.child.position_updates import (
    COALESCE_SECONDS,
    UPDATE_SECONDS,
    PositionUpdates,
)
from scriptservice.keeper.system.event_loop import EventLoop
from support.loops import run_for


@dataclass
class Journal:
    """Where the journal ends, and where its last urgent record ends."""

    end: int = 0
    urgent_end: int = 0


class Keeper:
    """Calls the updates as the keeper does; `sent` has the positions that the child got."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        self.journal = Journal()
        self.sent: list[int] = []
        self.updates = PositionUpdates(self.loop, self.journal, self.sent.append)
        self.loop.on_batch_end(self.updates, self.updates.batch_ended)

    def start_or_exit(self) -> None:
        self.journal.end += 10
        self.updates.batch_ended()

    def output(self) -> None:
        self.journal.end += 10
        self.journal.urgent_end = self.journal.end
        self.updates.batch_ended()

    def run(self, seconds: float = 10 * COALESCE_SECONDS) -> None:
        """Run the loop, so that timers fire."""
        run_for(self.loop, seconds)


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


def test_output_is_sent_at_once(keeper: Keeper) -> None:
    keeper.output()
    assert keeper.sent == [10]
    keeper.run()
    assert keeper.sent == [10]


def test_a_start_alone_is_sent_a_little_later(keeper: Keeper) -> None:
    keeper.start_or_exit()
    assert keeper.sent == []
    keeper.run()
    assert keeper.sent == [10]


def test_output_after_a_start_is_sent_with_it(keeper: Keeper) -> None:
    keeper.start_or_exit()
    keeper.start_or_exit()
    keeper.output()
    assert keeper.sent == [30]
    keeper.run()
    assert keeper.sent == [30]


def test_the_next_start_waits_as_well(keeper: Keeper) -> None:
    """Also when the timer of an earlier start fires that was sent with output."""
    for _ in range(3):
        keeper.start_or_exit()
        keeper.output()
        keeper.run()
        before = list(keeper.sent)
        keeper.start_or_exit()
        assert keeper.sent == before
        keeper.run()
        assert keeper.sent == [*before, keeper.journal.end]


def test_much_output_is_sent_together_and_to_its_end(keeper: Keeper) -> None:
    began = time.monotonic()
    for _ in range(50):
        keeper.output()
    # On a slow machine the loop above takes long enough for some updates.
    most = 4 + (time.monotonic() - began) / UPDATE_SECONDS
    assert len(keeper.sent) <= most
    keeper.run()
    assert keeper.sent[-1] == 500
    assert len(keeper.sent) <= most + 1
