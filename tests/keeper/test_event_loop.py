"""The keeper's event loop: timers, deferred callbacks, descriptors, and faults in callbacks."""

import os

from scriptservice.keeper.system.event_loop import EventLoop
from support.loops import run_until


def test_timers_run_in_order_and_cancelled_ones_do_not() -> None:
    loop, seen = EventLoop(), []
    for number in (3, 1, 2):
        loop.after(number / 100, lambda number=number: seen.append(number))
    loop.cancel(loop.after(0.015, lambda: seen.append(99)))
    loop.cancel(None)
    ran = loop.after(0, lambda: seen.append(0))
    loop.after(0.05, loop.stop)
    loop.run()
    loop.cancel(ran)
    assert seen == [0, 1, 2, 3]


def test_a_cancelled_timer_does_not_hide_others() -> None:
    loop, seen = EventLoop(), []
    timers = [loop.after(3600, lambda: seen.append("late")) for _ in range(5000)]
    kept = [loop.after(0.001, lambda: seen.append("kept")) for _ in range(3)]
    for timer in timers:
        loop.cancel(timer)
    loop.after(0.02, loop.stop)
    loop.run()
    assert seen == ["kept"] * len(kept)


def test_a_timer_that_sets_another_does_not_starve_descriptors() -> None:
    loop, runs = EventLoop(), []

    def again() -> None:
        runs.append(1)
        loop.after(0, again)

    again()
    reading, writing = os.pipe()
    os.write(writing, b"x")
    seen: list[int] = []
    loop.watch(reading, seen.append)
    run_until(loop, lambda: seen)
    os.close(reading)
    os.close(writing)
    assert runs


def test_a_fault_in_one_callback_does_not_stop_the_others() -> None:
    loop, seen = EventLoop(), []

    def fault() -> None:
        raise RuntimeError("a fault")

    loop.after(0, fault)
    loop.defer(fault)
    loop.on_batch_end(lambda: seen.append("batch"))
    loop.after(0.01, lambda: seen.append("timer"))
    loop.after(0.05, loop.stop)
    loop.run()
    assert "timer" in seen
    assert "batch" in seen


def test_a_descriptor_unwatched_in_a_batch_gets_no_old_event() -> None:
    loop, seen = EventLoop(), []
    pipes = [os.pipe() for _ in range(2)]
    for reading, writing in pipes:
        os.write(writing, b"x")

        def ready(_: int, own: int = reading) -> None:
            seen.append(own)
            for each, _other in pipes:
                loop.unwatch(each)
            loop.after(0.02, loop.stop)

        loop.watch(reading, ready)
    loop.run()
    for pair in pipes:
        for descriptor in pair:
            os.close(descriptor)
    assert len(seen) == 1
