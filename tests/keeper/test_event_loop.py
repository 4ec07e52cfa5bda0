"""The keeper's event loop: timers, deferred callbacks, descriptors, and faults in callbacks."""

import errno
import os

import pytest

from scriptservice.keeper.system.event_loop import LONGEST_PAUSE_SECONDS, EventLoop, Pause
from support.loops import Owner, callback_owners, run_for, run_until


def fault() -> None:
    raise RuntimeError("a fault")


def test_timers_run_in_order_and_cancelled_ones_do_not() -> None:
    loop, seen = EventLoop(), []
    own = Owner(loop).loop
    for number in (3, 1, 2):
        own.after(number / 100, lambda number=number: seen.append(number))
    own.cancel(own.after(0.015, lambda: seen.append(99)))
    own.cancel(None)
    ran = own.after(0, lambda: seen.append(0))
    run_for(loop, 0.05)
    own.cancel(ran)
    assert seen == [0, 1, 2, 3]


def test_a_cancelled_timer_does_not_hide_others() -> None:
    loop, seen = EventLoop(), []
    own = Owner(loop).loop
    timers = [own.after(3600, lambda: seen.append("late")) for _ in range(5000)]
    kept = [own.after(0.001, lambda: seen.append("kept")) for _ in range(3)]
    for timer in timers:
        own.cancel(timer)
    run_for(loop, 0.02)
    assert seen == ["kept"] * len(kept)


def test_a_timer_that_sets_another_does_not_starve_descriptors() -> None:
    loop, runs = EventLoop(), []
    own = Owner(loop).loop

    def again() -> None:
        runs.append(1)
        own.after(0, again)

    again()
    reading, writing = os.pipe()
    os.write(writing, b"x")
    seen: list[int] = []
    own.watch(reading, seen.append)
    run_until(loop, lambda: seen)
    os.close(reading)
    os.close(writing)
    assert runs


def test_a_descriptor_unwatched_in_a_batch_gets_no_old_event() -> None:
    loop, seen = EventLoop(), []
    own = Owner(loop).loop
    pipes = [os.pipe() for _ in range(2)]
    for reading, writing in pipes:
        os.write(writing, b"x")

        def ready(_: int, number: int = reading) -> None:
            seen.append(number)
            for each, _other in pipes:
                own.unwatch(each)
            own.after(0.02, loop.stop)

        own.watch(reading, ready)
    loop.run()
    for pair in pipes:
        for descriptor in pair:
            os.close(descriptor)
    assert len(seen) == 1


# Faults


def test_a_fault_in_one_callback_does_not_stop_the_others() -> None:
    loop, seen = EventLoop(), []
    own = Owner(loop).loop
    own.after(0, fault)
    own.defer(fault)
    own.on_batch_end(lambda: seen.append("batch"))
    own.after(0.01, lambda: seen.append("timer"))
    run_until(loop, lambda: "timer" in seen)
    assert "batch" in seen


def test_the_owner_of_a_timer_hears_of_its_fault_and_tries_again() -> None:
    loop, runs = EventLoop(), []

    class Part:
        def __init__(self) -> None:
            self.loop = loop.supervised(self)

        def callback_failed(self, error: Exception) -> None:
            assert str(error) == "a fault"
            self.loop.after(0, self.work)

        def work(self) -> None:
            runs.append(1)
            if len(runs) < 3:
                fault()

    Part().loop.after(0, runs.clear)
    part = Part()
    part.loop.after(0.01, part.work)
    part.loop.defer(fault)
    run_until(loop, lambda: len(runs) >= 3)


def test_only_the_owner_of_the_callback_hears_of_a_fault() -> None:
    loop = EventLoop()
    first, second = Owner(loop), Owner(loop)
    first.loop.after(0, fault)
    first.loop.defer(fault)
    first.loop.call(fault)
    run_until(loop, lambda: len(first.failures) == 3)
    assert second.failures == []


def test_an_owner_that_fails_hears_of_the_fault_again() -> None:
    loop, heard = EventLoop(), []

    class Broken:
        def callback_failed(self, error: Exception) -> None:
            heard.append(error)
            raise RuntimeError("a second fault") from error

    broken, healthy = Broken(), Owner(loop)
    loop.supervised(broken).after(0, fault)
    runs: list[int] = []
    healthy.loop.after(0.1, lambda: runs.append(1))
    run_until(loop, lambda: len(heard) == 2)
    assert heard[0] is heard[1]
    assert runs == [1]
    assert broken in callback_owners(loop)


def test_a_watch_that_fails_pauses_and_is_called_again() -> None:
    loop, calls = EventLoop(), []
    owner = Owner(loop)
    reading, writing = os.pipe()
    os.write(writing, b"x")

    def ready(_: int) -> None:
        calls.append(1)
        if len(calls) < 3:
            fault()
        owner.loop.unwatch(reading)

    owner.loop.watch(reading, ready)
    batches: list[int] = []
    Owner(loop).loop.on_batch_end(lambda: batches.append(len(calls)))
    run_until(loop, lambda: len(calls) == 3)
    assert owner.failures == ["a fault"] * 2
    # Between two calls the loop did something else: the descriptor was ready all the time.
    assert batches.count(1) > 1
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOMEM])
def test_a_watch_that_the_kernel_has_no_room_for_begins_later(number: int) -> None:
    loop, seen = EventLoop(), []
    owner = Owner(loop)
    refusals = [number] * 3

    class FullEpoll:
        """The kernel's epoll, which refuses the first watches."""

        def __init__(self) -> None:
            self._epoll = loop._epoll
            self.poll, self.unregister = self._epoll.poll, self._epoll.unregister

        def register(self, descriptor: int, events: int) -> None:
            if refusals:
                raise OSError(refusals.pop(), "no room")
            self._epoll.register(descriptor, events)

    loop._epoll = FullEpoll()
    reading, writing = os.pipe()
    os.write(writing, b"x")
    owner.loop.watch(reading, seen.append)
    never, _ = os.pipe()
    owner.loop.watch(never, seen.append)
    owner.loop.unwatch(never)
    run_until(loop, lambda: bool(seen))
    assert refusals == []
    assert owner.failures == []
    with pytest.raises(OSError, match="Bad file"):
        owner.loop.watch(99_999, seen.append)


def test_a_paused_watch_can_be_changed_and_unwatched() -> None:
    loop = EventLoop()
    owner = Owner(loop)
    reading, writing = os.pipe()
    os.write(writing, b"x")
    owner.loop.watch(reading, lambda _: fault())
    run_until(loop, lambda: owner.failures)
    assert owner in callback_owners(loop)
    owner.loop.change(reading, 0)
    owner.loop.unwatch(reading)
    seen: list[int] = []
    owner.loop.watch(reading, seen.append)  # the same number again, as after a close
    run_until(loop, lambda: seen)
    owner.loop.unwatch(reading)
    run_for(loop, 0.2)  # the end of the first watch's pause
    for descriptor in (reading, writing):
        os.close(descriptor)


def test_a_batch_end_that_fails_pauses_and_is_called_again() -> None:
    loop, calls = EventLoop(), []
    owner = Owner(loop)

    def batch_ended() -> None:
        calls.append(1)
        if len(calls) < 3:
            fault()

    owner.loop.on_batch_end(batch_ended)
    run_until(loop, lambda: len(calls) >= 3)
    assert owner.failures == ["a fault"] * 2


def test_an_owner_is_expected_while_anything_of_it_will_run() -> None:
    loop = EventLoop()
    owner, other = Owner(loop), Owner(loop)
    other.loop.after(3600, fault)
    reading, writing = os.pipe()
    assert owner not in callback_owners(loop)
    timer = owner.loop.after(3600, fault)
    assert owner in callback_owners(loop)
    owner.loop.cancel(timer)
    assert owner not in callback_owners(loop)
    owner.loop.watch(reading, lambda _: None)
    assert owner in callback_owners(loop)
    owner.loop.unwatch(reading)
    assert owner not in callback_owners(loop)
    owner.loop.defer(lambda: None)
    assert owner in callback_owners(loop)
    run_for(loop, 0)
    assert owner not in callback_owners(loop)
    os.close(reading)
    os.close(writing)


def test_a_pause_becomes_longer_up_to_a_bound() -> None:
    pause = Pause()
    seconds = [pause.next_seconds() for _ in range(20)]
    assert seconds[0] < seconds[1] < seconds[2]
    assert seconds == sorted(seconds)
    assert seconds[-1] == LONGEST_PAUSE_SECONDS
