"""Which notification wakes which subscribers."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from scriptservice.fleet.notifications import StatusChange
from scriptservice.ids import new_id
from scriptservice.model import UNKNOWN_OUTCOME, Status
from scriptservice.server.commands.notifier import FollowerKind, Notifier

MINE, OTHER = new_id(), new_id()
ALL = set(FollowerKind)


class Subscribers:
    """A subscriber of each kind."""

    def __init__(self, notifier: Notifier, stack: ExitStack) -> None:
        self._subscriptions = {
            kind: stack.enter_context(notifier.subscribe(MINE, kind)) for kind in FollowerKind
        }

    def woken(self) -> set[FollowerKind]:
        """Return which kinds have been woken since the last call."""
        found = {kind for kind, each in self._subscriptions.items() if each.is_set()}
        for each in self._subscriptions.values():
            each.clear()
        return found


def test_a_request_that_waits_for_the_end_is_woken_by_nothing_else() -> None:
    notifier = Notifier()
    with ExitStack() as stack:
        subscribers = Subscribers(notifier, stack)
        notifier.notify([MINE, OTHER], ended={})
        assert subscribers.woken() == ALL - {FollowerKind.WAIT}
        notifier.notify([MINE, OTHER], ended={OTHER: None})
        assert subscribers.woken() == ALL - {FollowerKind.WAIT}
        notifier.notify([OTHER], ended={OTHER: None})
        assert subscribers.woken() == set()
        notifier.notify([MINE], ended={MINE: None})
        assert subscribers.woken() == ALL
        notifier.notify([MINE])  # an end outside the journal, or a deletion
        assert subscribers.woken() == ALL


def test_a_notification_of_an_end_carries_the_last_step() -> None:
    notifier = Notifier()
    end = StatusChange(MINE, Status.SUCCEEDED, UNKNOWN_OUTCOME)
    with notifier.subscribe(MINE, FollowerKind.WAIT) as subscription:
        assert subscription.end is None
        notifier.notify([MINE], ended={MINE: end})
        assert subscription.end is end
        notifier.notify([MINE])  # the command was deleted: its last step no longer counts
        assert subscription.end is None


@pytest.mark.parametrize("shut_down", [Notifier.drain, Notifier.close])
def test_a_shutdown_wakes_every_subscriber(shut_down: Callable[[Notifier], None]) -> None:
    notifier = Notifier()
    with ExitStack() as stack:
        subscribers = Subscribers(notifier, stack)
        shut_down(notifier)
        assert subscribers.woken() == ALL


def test_nothing_is_kept_of_a_subscription_that_ended() -> None:
    notifier = Notifier()
    for kind in FollowerKind:
        with notifier.subscribe(MINE, kind) as first, notifier.subscribe(MINE, kind) as second:
            assert notifier.followers[kind] == 2
        notifier.notify([MINE])
        assert not first.is_set()
        assert not second.is_set()
    assert not any(notifier.followers.values())
    assert not notifier._subscriptions
