"""When the child is told how far the journal reaches."""

import time
from dataclasses import dataclass

import pytest

from scriptservice.keeper.child.position_updates import (
    FOLLOWED_SECONDS,
    TELL_SECONDS,
    PositionUpdates,
)
from scriptservice.keeper.system.event_loop import EventLoop


@dataclass
class Journal:
    """Where it ends, and where its last news does."""

    end: int = 0
    urgent_end: int = 0


class Keeper:
    """What calls an announcer; `told` is what the child heard."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        self.journal = Journal()
        self.told: list[int] = []
        self.announcer = PositionUpdates(self.loop, self.journal, self.told.append)
        self.loop.on_batch_end(self.announcer.batch_ended)

    def start_or_exit(self) -> None:
        self.journal.end += 10
        self.announcer.batch_ended()

    def news(self) -> None:
        self.journal.end += 10
        self.journal.urgent_end = self.journal.end
        self.announcer.batch_ended()

    def goes_on(self, seconds: float = 10 * FOLLOWED_SECONDS) -> None:
        """Let the loop run, so that whatever is due comes."""
        self.loop.after(seconds, self.loop.stop)
        self.loop.run()


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


def test_news_is_told_at_once(keeper: Keeper) -> None:
    keeper.news()
    assert keeper.told == [10]
    keeper.goes_on()
    assert keeper.told == [10]


def test_a_start_alone_is_told_a_little_later(keeper: Keeper) -> None:
    keeper.start_or_exit()
    assert keeper.told == []
    keeper.goes_on()
    assert keeper.told == [10]


def test_what_follows_brings_it_along(keeper: Keeper) -> None:
    keeper.start_or_exit()
    keeper.start_or_exit()
    keeper.news()
    assert keeper.told == [30]
    keeper.goes_on()
    assert keeper.told == [30]


def test_the_next_start_waits_as_well(keeper: Keeper) -> None:
    """Also when the time of one before is over that was brought along."""
    for _ in range(3):
        keeper.start_or_exit()
        keeper.news()
        keeper.goes_on()
        before = list(keeper.told)
        keeper.start_or_exit()
        assert keeper.told == before
        keeper.goes_on()
        assert keeper.told == [*before, keeper.journal.end]


def test_much_news_is_told_together_and_to_its_end(keeper: Keeper) -> None:
    began = time.monotonic()
    for _ in range(50):
        keeper.news()
    # On a slow machine so much time passes meanwhile that it is told now and then.
    most = 4 + (time.monotonic() - began) / TELL_SECONDS
    assert len(keeper.told) <= most
    keeper.goes_on()
    assert keeper.told[-1] == 500
    assert len(keeper.told) <= most + 1
