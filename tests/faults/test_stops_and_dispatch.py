"""Stops and queue time-outs that meet a command on its way to the keeper."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import httpx2 as httpx
import psutil

from scriptservice.keeper.fault_points import VARIABLE, arm
from support.service import PATIENCE_SECONDS, Service, eventually, new_directory

MakeService = Callable[..., Service]


def test_a_stop_that_overtakes_the_spawn_is_not_lost(make_service: MakeService) -> None:
    service = make_service("--max-running", "8").start()
    ids = [service.submit("exec sleep 300", grace_seconds=1)["id"] for _ in range(80)]

    def stop(command: str) -> int:
        url = f"{service.url}/v1/commands/{command}/stop"
        return httpx.post(url, headers=service.headers, timeout=PATIENCE_SECONDS).status_code

    # Each that ends makes room for the next, which is being stopped just then.
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(stop, ids)) == {202}
    found = [service.wait(command) for command in ids]
    assert {command["status"] for command in found} == {"stopped"}


def test_a_queue_time_out_holds_with_the_keeper_too(make_service: MakeService) -> None:
    service = make_service().start()

    def submit(_: int) -> str:
        body = {"script": "sleep 1", "queue_timeout_seconds": 0.05}
        response = httpx.post(f"{service.url}/v1/commands", json=body, headers=service.headers)
        return str(response.json()["id"])

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(submit, range(300)))
    found = [service.wait(command) for command in ids]
    expired = [command for command in found if command["status"] == "timed_out"]
    assert all(command["started_at"] is None for command in expired)
    for command in found:
        if command["status"] != "timed_out":
            times = [datetime.fromisoformat(command[name]) for name in ("created_at", "started_at")]
            assert (times[1] - times[0]).total_seconds() < 1


def test_a_queue_time_out_that_is_due_while_it_is_marked(make_service: MakeService) -> None:
    points = str(new_directory())
    service = make_service("--max-running", "1", environment={VARIABLE: points}).start()
    server = psutil.Process(service.server_pid)
    for _ in range(2):
        busy = service.submit("sleep 600")["id"]
        command = service.submit("echo ran", queue_timeout_seconds=1.5)["id"]
        waited = time.monotonic()
        arm(points, "dispatch.picked", "stop")
        assert service.client.post(f"/v1/commands/{busy}/stop").status_code == 202
        # It has read that there is one to send, and goes on when its time is over.
        eventually(lambda: server.status() == psutil.STATUS_STOPPED, "the server to be stopped")
        time.sleep(max(0.0, waited + 1.6 - time.monotonic()))
        server.resume()
        final = service.wait(command)
        assert (final["status"], final["started_at"]) == ("timed_out", None)
        assert service.bytes_of(command) == b""
