"""The keeper's event loop: level-triggered epoll, timers and signals.

Callbacks run one after another on the only thread. One batch is: the events that one call of epoll
has returned, the timers that are due, and the deferred callbacks. A callback must unwatch a
descriptor before it closes the descriptor, and must defer work that opens descriptors to the end of
the batch. Otherwise a new descriptor could get the number of a descriptor that was closed in the
same batch. An event of the closed descriptor would then reach the wrong script.

Every callback has an owner. `EventLoop.supervised` returns the view through which one part of the
keeper uses the loop, and that part owns all callbacks of the view. Running commands have no views,
since thousands of views would need much memory. A command passes the owner to each method of the
loop instead. If a callback raises an exception, the loop logs the exception and passes it to the
owner:

- A timer or a deferred callback does not run again by itself. The owner must set another timer, or
  end whatever it owns.
- A watch, and a callback at the end of each batch, pause and then run again by themselves. The
  pause becomes longer with each failure, so a callback that always fails does not use a whole
  processor and does not delay the other callbacks.
"""

import errno
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
from typing import Generic, Protocol, TypeVar

from scriptservice.keeper.system.keeper_log import logger

Callback = Callable[[], None]
ReadyCallback = Callable[[int], None]
_C = TypeVar("_C")

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT
HANGUP = select.EPOLLHUP

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 5.0
_NO_MORE_WATCHES = {errno.ENOSPC, errno.ENOMEM}
_LONGEST_SECONDS = 3600.0  # The kernel stores the milliseconds of a time-out in 32 bits.


class CallbackOwner(Protocol):
    """A part of the keeper that has callbacks in the loop."""

    def callback_failed(self, error: Exception) -> None:
        """Try again later, or end whatever this part owns.

        If a callback of this part raises an exception, the loop logs the exception and then calls
        this method. If this method itself fails, the loop calls it again later.
        """


class Timer:
    """A callback, its owner, and the time of the monotonic clock at which it runs, in seconds."""

    __slots__ = ("callback", "owner", "when")

    def __init__(self, when: float, callback: Callback, owner: CallbackOwner) -> None:
        self.when = when
        self.callback: Callback | None = callback
        self.owner: CallbackOwner | None = owner

    @property
    def due(self) -> float | None:
        """The time at which the callback will run, None if it has run or was cancelled."""
        return None if self.callback is None else self.when


class Pause:
    """The length of the pause after each failure: it doubles with each failure up to a bound.

    A failure that comes long after the previous one starts with the first pause again.
    """

    __slots__ = ("_failed_at", "_seconds")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._failed_at = 0.0

    def next_seconds(self) -> float:
        """Return how long to wait after the failure that has just happened."""
        now = time.monotonic()
        if now - self._failed_at > 2 * LONGEST_PAUSE_SECONDS:
            self._seconds = 0.0
        self._failed_at = now
        self._seconds = min(max(FIRST_PAUSE_SECONDS, 2 * self._seconds), LONGEST_PAUSE_SECONDS)
        return self._seconds


class _Recurring(Generic[_C]):
    """A callback that runs again and again: a watch, or a callback at the end of each batch.

    Attributes:
        callback: the callback.
        owner: the part of the keeper that has the callback.
        events: the events that a descriptor is watched for.
        is_paused: whether the callback has failed and waits for the end of its pause.
        pause: the length of the next pause, None if the callback has never failed.
    """

    __slots__ = ("callback", "events", "is_paused", "owner", "pause")

    def __init__(self, callback: _C, owner: CallbackOwner, events: int = 0) -> None:
        self.callback = callback
        self.owner = owner
        self.events = events
        self.is_paused = False
        self.pause: Pause | None = None


class EventLoop:
    """Watches descriptors, timers and signals until `stop` is called."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, _Recurring[ReadyCallback]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._cancelled = 0
        self._order = itertools.count()
        self._deferred: deque[tuple[CallbackOwner, Callback]] = deque()
        self._running = False
        self._batch_end_callbacks: list[_Recurring[Callback]] = []
        self._signal_pipe = (-1, -1)

    def supervised(self, owner: CallbackOwner) -> "SupervisedLoop":
        """Return a view of this loop whose callbacks belong to a part of the keeper."""
        return SupervisedLoop(self, owner)

    def watch(
        self,
        owner: CallbackOwner,
        descriptor: int,
        callback: ReadyCallback,
        events: int = READABLE,
    ) -> None:
        """See `SupervisedLoop.watch`."""
        if descriptor in self._watched:
            return
        watch = _Recurring(callback, owner, events)
        try:
            self._epoll.register(descriptor, events)
        except OSError as error:
            if error.errno not in _NO_MORE_WATCHES:
                raise
            # The owner may be a script that runs already, so this must not fail. The descriptor
            # stays readable until it is watched.
            self._watched[descriptor] = watch
            self._pause(watch, partial(self._watch_again, descriptor, watch))
        else:
            self._watched[descriptor] = watch

    def change(self, descriptor: int, events: int) -> None:
        """Change the events that a watched descriptor is watched for."""
        watch = self._watched[descriptor]
        if watch.events == events:
            return
        if not watch.is_paused:
            self._epoll.modify(descriptor, events)
        watch.events = events

    def unwatch(self, descriptor: int) -> None:
        """Stop watching a descriptor; call this method before you close the descriptor."""
        watch = self._watched.pop(descriptor, None)
        if watch is not None and not watch.is_paused:
            self._epoll.unregister(descriptor)

    def at(self, owner: CallbackOwner, when: float, callback: Callback) -> Timer:
        """See `SupervisedLoop.at`."""
        timer = Timer(when, callback, owner)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def after(self, owner: CallbackOwner, seconds: float, callback: Callback) -> Timer:
        """See `SupervisedLoop.after`."""
        return self.at(owner, time.monotonic() + seconds, callback)

    def cancel(self, timer: Timer | None) -> None:
        """Cancel a timer; this has no effect if the timer is None, has run or was cancelled."""
        if timer is None or timer.callback is None:
            return
        # The owner may be a command that has ended; the timer must not keep it in memory.
        timer.callback = timer.owner = None
        self._cancelled += 1
        # A script that runs for milliseconds may leave a cancelled timer that is due in hours. So
        # remove the cancelled timers when more than half of all timers are cancelled.
        if self._cancelled > 1000 and self._cancelled * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if entry[2].callback]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def defer(self, owner: CallbackOwner, callback: Callback) -> None:
        """See `SupervisedLoop.defer`."""
        self._deferred.append((owner, callback))

    def on_batch_end(self, owner: CallbackOwner, callback: Callback) -> None:
        """See `SupervisedLoop.on_batch_end`."""
        self._batch_end_callbacks.append(_Recurring(callback, owner))

    def watch_signals(
        self, owner: CallbackOwner, numbers: set[int], callback: Callable[[int], None]
    ) -> None:
        """See `SupervisedLoop.watch_signals`."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._signal_pipe = (reading, writing)
        for number in numbers:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

        def signals_ready(_: int) -> None:
            for number in self.take_pending_signals():
                self.call(owner, partial(callback, number))

        self.watch(owner, reading, signals_ready)

    def take_pending_signals(self) -> set[int]:
        """Return the signals that are not handled yet; the callback then never gets them."""
        with suppress(BlockingIOError):
            return set(os.read(self._signal_pipe[0], 4096))
        return set()

    def return_signals(self, numbers: set[int]) -> None:
        """Let the callback handle signals that `take_pending_signals` has returned."""
        if numbers:
            os.write(self._signal_pipe[1], bytes(numbers))

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
            watch = self._watched.get(descriptor)
            if watch is not None:
                try:
                    watch.callback(events)
                except Exception as error:  # noqa: BLE001 - one fault must not end all scripts
                    self._watch_failed(descriptor, watch, error)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            due, timer.callback = timer.callback, None
            if due and timer.owner is not None:
                self.call(timer.owner, due)
            else:
                self._cancelled -= 1
        for _ in range(len(self._deferred)):
            self.call(*self._deferred.popleft())
        for each in self._batch_end_callbacks:
            if not each.is_paused:
                try:
                    each.callback()
                except Exception as error:  # noqa: BLE001 - one fault must not end all scripts
                    self._batch_end_failed(each, error)

    def _timeout(self) -> float:
        if self._deferred:
            return 0
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
            self._cancelled -= 1
        if not self._timers:
            return -1
        return min(_LONGEST_SECONDS, max(0, self._timers[0][0] - time.monotonic()))

    # Failures

    def call(self, owner: CallbackOwner, callback: Callback) -> None:
        """See `SupervisedLoop.call`."""
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - one fault must not end all scripts
            self._report(owner, error)

    def _report(self, owner: CallbackOwner, error: Exception) -> None:
        logger.exception("keeper_fault", detail="the keeper continues")
        self._tell(owner, error)

    def _tell(self, owner: CallbackOwner, error: Exception) -> None:
        try:
            owner.callback_failed(error)
        except Exception:  # noqa: BLE001 - see above
            logger.exception("keeper_fault", detail="the part that failed is told again later")
            self.after(owner, LONGEST_PAUSE_SECONDS, partial(self._tell, owner, error))

    def _watch_failed(
        self, descriptor: int, watch: _Recurring[ReadyCallback], error: Exception
    ) -> None:
        self._report(watch.owner, error)
        # The callback or the owner may have unwatched the descriptor.
        if self._watched.get(descriptor) is watch and not watch.is_paused:
            self._epoll.unregister(descriptor)
            self._pause(watch, partial(self._watch_again, descriptor, watch))

    def _watch_again(self, descriptor: int, watch: _Recurring[ReadyCallback]) -> None:
        if self._watched.get(descriptor) is not watch:
            return
        try:
            self._epoll.register(descriptor, watch.events)
        except OSError:
            # The kernel accepts no more watches at present, so wait for another pause.
            self._pause(watch, partial(self._watch_again, descriptor, watch))
        else:
            watch.is_paused = False

    def _batch_end_failed(self, each: _Recurring[Callback], error: Exception) -> None:
        self._report(each.owner, error)

        def end_pause() -> None:
            each.is_paused = False

        self._pause(each, end_pause)

    def _pause(self, each: _Recurring[_C], at_end: Callback) -> None:
        each.is_paused = True
        each.pause = each.pause or Pause()
        self.after(each.owner, each.pause.next_seconds(), at_end)


class SupervisedLoop:
    """The event loop as one part of the keeper uses it; that part owns all callbacks set here.

    Args:
        loop: the loop.
        owner: gets the exceptions that the callbacks raise.
    """

    __slots__ = ("_loop", "_owner", "cancel", "change", "unwatch")

    def __init__(self, loop: EventLoop, owner: CallbackOwner) -> None:
        self._loop = loop
        self._owner = owner
        self.change = loop.change
        self.unwatch = loop.unwatch
        self.cancel = loop.cancel

    def watch(self, descriptor: int, callback: ReadyCallback, events: int = READABLE) -> None:
        """Call back with the event mask whenever a descriptor is ready.

        This has no effect if the descriptor is watched already. If the kernel accepts no more
        watches, the loop tries again until it does.

        Raises:
            OSError: epoll cannot watch such a descriptor.
        """
        self._loop.watch(self._owner, descriptor, callback, events)

    def at(self, when: float, callback: Callback) -> Timer:
        """Call back at a time of the monotonic clock, in seconds."""
        return self._loop.at(self._owner, when, callback)

    def after(self, seconds: float, callback: Callback) -> Timer:
        """Call back after a number of seconds."""
        return self._loop.after(self._owner, seconds, callback)

    def defer(self, callback: Callback) -> None:
        """Call back after the present batch of events, before the loop waits for new events."""
        self._loop.defer(self._owner, callback)

    def on_batch_end(self, callback: Callback) -> None:
        """Call back at the end of every batch, after the deferred callbacks."""
        self._loop.on_batch_end(self._owner, callback)

    def watch_signals(self, numbers: set[int], callback: Callable[[int], None]) -> None:
        """Call back with the number of a signal whenever one of these signals arrives."""
        self._loop.watch_signals(self._owner, numbers, callback)

    def call(self, callback: Callback) -> None:
        """Call a function now; if it raises an exception, log that and pass it to the owner.

        Use this if one callback calls functions of several owners: a failure of one function must
        not prevent the calls of the others.
        """
        self._loop.call(self._owner, callback)
