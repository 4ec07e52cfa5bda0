"""The keeper's event loop: level-triggered epoll, timers and signals.

Callbacks run one after another on the only thread. A callback must unwatch a descriptor before it
closes the descriptor, and must defer work that opens descriptors to the end of the batch. Otherwise
a new descriptor could get the number of a descriptor that was closed in the same batch. An event of
the closed descriptor would then reach the wrong script.
"""

import heapq
import itertools
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from scriptservice.keeper.system.keeper_log import logger

Callback = Callable[[], None]
ReadyCallback = Callable[[int], None]

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT
HANGUP = select.EPOLLHUP

_FAULT_SECONDS = 0.01
_LONGEST_SECONDS = 3600.0  # The kernel stores the milliseconds of a time-out in 32 bits.


class Timer:
    """A callback, and the time of the monotonic clock at which it runs, in seconds."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callback) -> None:
        self.when = when
        self.callback: Callback | None = callback

    @property
    def due(self) -> float | None:
        """The time at which the callback will run, None if it has run or was cancelled."""
        return None if self.callback is None else self.when


class EventLoop:
    """Watches descriptors, timers and signals until `stop` is called."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, ReadyCallback] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._cancelled = 0
        self._order = itertools.count()
        self._deferred: deque[Callback] = deque()
        self._running = False
        self._batch_end_callbacks: list[Callback] = []
        self._signal_pipe = -1

    def watch(self, descriptor: int, callback: ReadyCallback, events: int = READABLE) -> None:
        """Call back with the event mask whenever a descriptor is ready.

        This has no effect if the descriptor is watched already.

        Raises:
            OSError: the kernel accepts no more watches, or epoll cannot watch such a descriptor.
        """
        if descriptor in self._watched:
            return
        self._epoll.register(descriptor, events)
        self._watched[descriptor] = callback

    def change(self, descriptor: int, events: int) -> None:
        """Change the events that a watched descriptor is watched for."""
        self._epoll.modify(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching a descriptor; call this before closing it."""
        if self._watched.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def at(self, when: float, callback: Callback) -> Timer:
        """Call back at a time of the monotonic clock, in seconds."""
        timer = Timer(when, callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def after(self, seconds: float, callback: Callback) -> Timer:
        """Call back after a number of seconds."""
        return self.at(time.monotonic() + seconds, callback)

    def cancel(self, timer: Timer | None) -> None:
        """Cancel a timer; this has no effect if the timer is None, has run or was cancelled."""
        if timer is None or timer.callback is None:
            return
        timer.callback = None
        self._cancelled += 1
        # A script that runs for milliseconds may leave a cancelled timer that is due in hours. So
        # remove the cancelled timers when more than half of all timers are cancelled.
        if self._cancelled > 1000 and self._cancelled * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if entry[2].callback]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def defer(self, callback: Callback) -> None:
        """Call back after the present batch of events, before the loop waits for new events."""
        self._deferred.append(callback)

    def on_batch_end(self, callback: Callback) -> None:
        """Call back at the end of every batch, after the deferred callbacks."""
        self._batch_end_callbacks.append(callback)

    def watch_signals(self, numbers: set[int], callback: Callable[[int], None]) -> None:
        """Call back with the number of a signal whenever one of these signals arrives."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in numbers:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

        def signals_ready(_: int) -> None:
            with suppress(BlockingIOError):
                for number in set(os.read(reading, 4096)):
                    callback(number)

        self.watch(reading, signals_ready)
        self._signal_pipe = reading

    def take_pending_signals(self) -> set[int]:
        """Return the signals that arrived and were not handled; the callback will not get them."""
        with suppress(BlockingIOError):
            return set(os.read(self._signal_pipe, 4096))
        return set()

    def stop(self) -> None:
        """Let `run` return after the present batch."""
        self._running = False

    def run(self) -> None:
        """Run until `stop` is called."""
        self._running = True
        while self._running:
            self._run_batch()

    def _run_batch(self) -> None:
        for descriptor, events in self._epoll.poll(self._timeout(), 256):
            if ready := self._watched.get(descriptor):
                _call(partial(ready, events))
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            due, timer.callback = timer.callback, None
            if due:
                _call(due)
            else:
                self._cancelled -= 1
        for _ in range(len(self._deferred)):
            _call(self._deferred.popleft())
        for callback in self._batch_end_callbacks:
            _call(callback)

    def _timeout(self) -> float:
        if self._deferred:
            return 0
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
            self._cancelled -= 1
        if not self._timers:
            return -1
        return min(_LONGEST_SECONDS, max(0, self._timers[0][0] - time.monotonic()))


def _call(callback: Callback) -> None:
    try:
        callback()
    except Exception:  # noqa: BLE001 - one fault must not end all scripts
        logger.exception("keeper_fault", detail="the keeper continues")
        # A callback may fail in every batch. Without this pause the loop would then use a whole
        # processor.
        time.sleep(_FAULT_SECONDS)
