"""Stops and queue time-outs of commands that are being sent to the keeper."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import psutil

from scriptservice.protocol.fault_points import VARIABLE, arm, pending
from support.scripts import keeper_of
from support.service import ON_BOTH, PATIENCE_SECONDS, Service, eventually, new_directory

MakeService = Callable[..., Service]


@ON_BOTH
def test_a_stop_that_overtakes_the_spawn_is_not_lost(make_service: MakeService) -> None:
    service = make_service("--max-running", "8").start()
    ids = [service.submit("exec sleep 3600", grace_seconds=1)["id"] for _ in range(40)]

    def stop(command: str) -> int:
        url = f"{service.url}/v1/commands/{command}/stop"
        return httpx.post(
            url, headers=service.headers, timeout=PATIENCE_SECONDS, verify=False
        ).status_code

    # Each command that ends makes room for the next, which is being stopped at that moment.
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(stop, ids)) == {202}
    found = [service.wait(command) for command in ids]
    assert {command["status"] for command in found} == {"stopped"}


def test_a_queue_time_out_applies_after_dispatch_to_the_keeper(make_service: MakeService) -> None:
    """A command that was sent to the keeper and has not started expires as well."""
    points = str(new_directory())
    service = make_service(environment={VARIABLE: points}).start()
    keeper = keeper_of(service)
    # On a slow machine they may expire before they are sent; then the next round gives more time.
    for seconds in (1.5, 6, 24, 96):
        arm(points, "dispatch.sent", "pass 2")
        keeper.suspend()
        sent = [service.submit("echo ran", queue_timeout_seconds=seconds)["id"] for _ in range(3)]
        overdue_at = time.monotonic() + seconds

        def over(at: float = overdue_at) -> bool:
            return time.monotonic() > at

        eventually(lambda: over() or not pending(points, "dispatch.sent"), "all to be sent")
        in_time = not over()
        eventually(over, "their time to be over")
        patient = service.submit("echo ran", queue_timeout_seconds=3600)["id"]
        keeper.resume()
        for command in sent:
            final = service.wait(command)
            assert (final["status"], final["started_at"]) == ("timed_out", None)
            assert service.bytes_of(command) == b""
        assert service.wait(patient)["status"] == "succeeded"
        if in_time:
            return
    raise AssertionError("they were never sent in time")


def test_queue_time_outs_under_load(service: Service) -> None:

    def submit(_: int) -> str:
        body = {"script": "echo ran", "queue_timeout_seconds": 0.05}
        response = httpx.post(
            f"{service.url}/v1/commands",
            json=body,
            headers=service.headers,
            timeout=PATIENCE_SECONDS,
            verify=False,
        )
        return str(response.json()["id"])

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(submit, range(150)))
    for command in ids:
        found = service.wait(command)
        expired = found["status"] == "timed_out"
        assert expired or found["status"] == "succeeded"
        assert (found["started_at"] is None) is expired
        assert service.bytes_of(command) == (b"" if expired else b"ran\n")


@ON_BOTH
def test_a_queue_time_out_that_is_due_while_its_command_is_marked(
    make_service: MakeService,
) -> None:
    points = str(new_directory())
    service = make_service("--max-running", "1", environment={VARIABLE: points}).start()
    server = psutil.Process(service.server_pid)
    for _ in range(2):
        command, overdue_at = stopped_while_it_marks(service, server, points)
        eventually(lambda: time.monotonic() > overdue_at, "its time to be over")  # noqa: B023
        server.resume()
        final = service.wait(command)
        assert (final["status"], final["started_at"]) == ("timed_out", None)
        assert service.bytes_of(command) == b""


def stopped_while_it_marks(
    service: Service, server: psutil.Process, points: str
) -> tuple[str, float]:
    """Suspend the server after it has read a queued command, before it marks it.

    On a slow machine the command may have expired by then; the next one gets more time.

    Returns:
        The command id, and when its queue time-out ends by the monotonic clock.
    """
    for seconds in (1.5, 6, 24, 96):
        busy = service.submit("sleep 3600")["id"]
        service.wait_for(busy, "running")
        command = service.submit("echo ran", queue_timeout_seconds=seconds)["id"]
        overdue_at = time.monotonic() + seconds
        arm(points, "dispatch.picked", "stop")
        stopping = service.client.post(f"/v1/commands/{busy}/stop", json={"grace_seconds": 0})
        assert stopping.status_code == 202
        eventually(lambda: server.status() == psutil.STATUS_STOPPED, "the server to be stopped")
        if time.monotonic() < overdue_at:
            return command, overdue_at
        server.resume()
        service.wait(command)
    raise AssertionError("it never came in time")
