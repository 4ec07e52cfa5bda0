"""Running the keeper's event loop in a test."""

import time
from collections.abc import Callable
from typing import Any

from scriptservice.keeper.system.event_loop import CallbackOwner, EventLoop, SupervisedLoop
from support.service import PATIENCE_SECONDS


class Owner:
    """Owns callbacks of a loop, and keeps the failures that it hears of.

    Args:
        loop: the loop.

    Attributes:
        loop: the loop, for callbacks of this owner.
        failures: the text of each failure.
    """

    def __init__(self, loop: EventLoop) -> None:
        self.loop: SupervisedLoop = loop.supervised(self)
        self.failures: list[str] = []

    def callback_failed(self, error: Exception) -> None:
        self.failures.append(str(error))


def callback_owners(loop: EventLoop) -> list[CallbackOwner]:
    """Return the owner of each callback that will run."""
    return [
        *(watch.owner for watch in loop._watched.values()),
        *timer_owners(loop),
        *(owner for owner, _ in loop._deferred),
    ]


def timer_owners(loop: EventLoop) -> list[CallbackOwner]:
    """Return the owner of each timer that will run."""
    return [timer.owner for *_, timer in loop._timers if timer.owner is not None]


def run_for(loop: EventLoop, seconds: float) -> None:
    """Run a loop for a number of seconds."""
    Owner(loop).loop.after(seconds, loop.stop)
    loop.run()


def run_until(loop: EventLoop, condition: Callable[[], Any]) -> None:
    """Run a loop until a condition holds, which is checked every 10 ms."""
    callbacks = Owner(loop).loop
    deadline = time.monotonic() + PATIENCE_SECONDS

    def check() -> None:
        if condition() or time.monotonic() > deadline:
            loop.stop()
        else:
            callbacks.after(0.01, check)

    check()
    loop.run()
    assert condition()
