"""The wall clock is set a day forward and a day back, while scripts run and wait."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from support.clock import DAY_SECONDS, Clock
from support.oracle import Trial, every_kind, late, quick
from support.scripts import ask_to_stop, stop
from support.service import ON_SQLITE, Service, eventually
from support.upgrades import Installation

ROOM = 3
SECONDS = 2.0


@pytest.fixture
def installation() -> Iterator[Installation]:
    made = Installation()
    yield made
    made.remove()


def set_clock(service: Service, clock: Clock, days: int) -> None:
    """Set the clock ahead of the machine's by some days; assert that the service uses it."""
    clock.set(days * DAY_SECONDS)
    created = datetime.fromisoformat(service.submit("true", priority=-1)["created_at"])
    assert abs((created - datetime.now(UTC)).total_seconds() / 3600 - 24 * days) < 1


@ON_SQLITE
def test_time_outs_and_order_do_not_depend_on_the_wall_clock(
    make_service: Callable[..., Service], installation: Installation
) -> None:
    clock = Clock(installation)
    service = make_service("--max-running", str(ROOM), python=installation.python).start()
    trial = Trial(service)
    trial.submit(quick())
    trial.settle()
    trial.note_descriptors()
    for days in (1, -1):
        timers_continue(service, clock, days)
        order_is_kept(service, clock, -days)
        trial.submit_all([late(), *every_kind()])
        trial.settle()
        assert service.ready()["degraded"] == []
    clock.set(0)
    trial.verify()
    assert "fault" not in service.output()


def timers_continue(service: Service, clock: Clock, days: int) -> None:
    """Assert that time-out, grace period and the wait for leftovers end, and not too early.

    If they used the wall clock, they would end at once or a day later.
    """
    began = time.monotonic()
    forever = {"timeout_seconds": SECONDS, "grace_seconds": 0}
    timed = service.submit("echo begun; sleep 3600", **forever)["id"]
    left = service.submit("echo begun; sleep 3600 & exit 0", leftover_seconds=SECONDS)["id"]
    stopped = service.submit("trap '' TERM; echo begun; sleep 3600; sleep 3600")["id"]
    eventually(lambda: service.get(timed)["started_at"], "it to start")
    for command in (left, stopped):
        service.wait_for_output(command, b"begun")
    ask_to_stop(service, stopped, grace_seconds=SECONDS)
    set_clock(service, clock, days)
    ends = {}
    for command in (timed, left, stopped):
        ends[command] = service.wait(command)
        assert time.monotonic() - began > SECONDS - 0.1, ends[command]
    assert ends[timed]["status"] == "timed_out"
    assert (ends[left]["status"], ends[left]["leftovers_killed"]) == ("succeeded", 1)
    assert (ends[stopped]["status"], ends[stopped]["signal"]) == ("stopped", "SIGKILL")


def order_is_kept(service: Service, clock: Clock, days: int) -> None:
    """Assert that queued commands keep their order and their queue time-outs."""
    held = [service.submit("sleep 3600")["id"] for _ in range(ROOM)]
    for command in held:
        service.wait_for(command, "running")
    script = "echo $SCRIPTSERVICE_COMMAND_ID >> order"
    waiting = [service.submit(script, queue_timeout_seconds=3600)["id"] for _ in range(2)]
    began = time.monotonic()
    short = service.submit(script, queue_timeout_seconds=SECONDS / 2)["id"]
    set_clock(service, clock, days)
    # These were submitted later, but are older by the clock if it was set back.
    waiting += [service.submit(script, queue_timeout_seconds=3600)["id"] for _ in range(2)]
    assert service.wait(short)["status"] == "timed_out"
    assert time.monotonic() - began > SECONDS / 2 - 0.1
    assert stop(service, held.pop(), grace_seconds=0)["status"] == "stopped"
    for command in waiting:
        assert service.wait(command)["status"] == "succeeded"
    order = service.data_dir / "work" / "order"
    assert order.read_text().split() == waiting
    order.unlink()
    for command in held:
        stop(service, command, grace_seconds=0)
