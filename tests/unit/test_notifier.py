"""Who is woken by which news."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from scriptservice.fleet.notifications import Step
from scriptservice.ids import new_id
from scriptservice.model import NOTHING_KNOWN, Status
from scriptservice.server.commands.notifier import FollowerKind, Notifier

MINE, OTHER = new_id(), new_id()


class Listening:
    """One follower of each kind; `woken` says which have been since it was asked last."""

    def __init__(self, feed: Notifier, stack: ExitStack) -> None:
        self._events = {
            kind: stack.enter_context(feed.subscription(MINE, kind)) for kind in FollowerKind
        }

    def woken(self) -> set[FollowerKind]:
        found = {kind for kind, event in self._events.items() if event.is_set()}
        for event in self._events.values():
            event.clear()
        return found


ALL = set(FollowerKind)


def test_who_waits_for_the_end_is_woken_by_nothing_else() -> None:
    feed = Notifier()
    with ExitStack() as stack:
        listening = Listening(feed, stack)
        feed.notify([MINE, OTHER], ended={})
        assert listening.woken() == ALL - {FollowerKind.WAIT}
        feed.notify([MINE, OTHER], ended={OTHER: None})
        assert listening.woken() == ALL - {FollowerKind.WAIT}
        feed.notify([OTHER], ended={OTHER: None})
        assert listening.woken() == set()
        feed.notify([MINE], ended={MINE: None})
        assert listening.woken() == ALL
        feed.notify([MINE])  # an end outside the journal, or a deletion
        assert listening.woken() == ALL


def test_an_end_is_handed_over_where_it_is_known() -> None:
    feed = Notifier()
    end = Step(MINE, Status.SUCCEEDED, NOTHING_KNOWN)
    with feed.subscription(MINE, FollowerKind.WAIT) as news:
        assert news.end is None
        feed.notify([MINE], ended={MINE: end})
        assert news.end is end
        feed.notify([MINE])  # it has been deleted: what was known does not count any more
        assert news.end is None


@pytest.mark.parametrize("over", [Notifier.drain, Notifier.close])
def test_all_are_woken_when_it_is_over(over: Callable[[Notifier], None]) -> None:
    feed = Notifier()
    with ExitStack() as stack:
        listening = Listening(feed, stack)
        over(feed)
        assert listening.woken() == ALL


def test_nothing_is_kept_of_who_left() -> None:
    feed = Notifier()
    for kind in FollowerKind:
        with feed.subscription(MINE, kind) as first, feed.subscription(MINE, kind) as second:
            assert feed.followers[kind] == 2
        feed.notify([MINE])
        assert not first.is_set()
        assert not second.is_set()
    assert not any(feed.followers.values())
    assert not feed._waiting
