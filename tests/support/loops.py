"""Running the keeper's event loop in a test."""

import time
from collections.abc import Callable
from typing import Any

from scriptservice.keeper.system.event_loop import EventLoop
from support.service import PATIENCE_SECONDS


def run_until(loop: EventLoop, condition: Callable[[], Any]) -> None:
    """Run a loop until a condition holds, which is checked every 10 ms."""
    deadline = time.monotonic() + PATIENCE_SECONDS

    def check() -> None:
        if condition() or time.monotonic() > deadline:
            loop.stop()
        else:
            loop.after(0.01, check)

    check()
    loop.run()
    assert condition()
