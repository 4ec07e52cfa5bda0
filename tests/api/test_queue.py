"""Queued commands: in which order they start, and how they end without starting."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.gates import Gate
from support.problems import assert_problem
from support.service import Service, eventually, running_service


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service("--max-running", "1") as shared:
        yield shared


@pytest.fixture
def busy(service: Service) -> Iterator[dict[str, Any]]:
    """A command that occupies the only slot until the test ends it."""
    command = service.submit("exec sleep 3600")
    service.wait_for(command["id"], "running")
    yield command
    stop(service, command)


def stop(service: Service, command: dict[str, Any]) -> None:
    service.client.post(f"/v1/commands/{command['id']}/stop", json={"grace_seconds": 0})
    service.wait(command["id"])


def never_started(command: dict[str, Any]) -> bool:
    unknown = ("started_at", "exited_at", "exit_code", "signal")
    return all(command[name] is None for name in unknown) and command["output"]["bytes"] == 0


def test_higher_priority_first_then_in_order_of_submission(service: Service) -> None:
    first = service.submit("exec sleep 3600")
    service.wait_for(first["id"], "running")
    waiting = [
        service.submit("true", name=name, priority=priority)
        for name, priority in (("c", 0), ("e", -5), ("a", 100), ("d", 0), ("b", 7))
    ]
    assert [command["status"] for command in waiting] == ["queued"] * 5
    stop(service, first)
    done = [service.wait(command["id"]) for command in waiting]
    done.sort(key=lambda command: command["started_at"])
    assert [command["name"] for command in done] == ["a", "b", "c", "d", "e"]
    for before, after in itertools.pairwise(done):
        assert before["finished_at"] <= after["started_at"]


def test_at_most_max_running_commands_run(service: Service, busy: dict[str, Any]) -> None:
    others = [service.submit("true") for _ in range(3)]
    listed = service.client.get("/v1/commands", params={"status": ["running", "stopping"]}).json()
    assert [command["id"] for command in listed["items"]] == [busy["id"]]
    host = service.client.get("/v1/hosts").json()["items"][0]
    assert (host["capacity"], host["running"]) == (1, 1)
    for command in others:
        stop(service, command)


def test_a_queue_timeout_ends_a_command_that_waited_too_long(
    service: Service, busy: dict[str, Any]
) -> None:
    command = service.submit("true", queue_timeout_seconds=0.2)
    ended = service.wait(command["id"])
    assert ended["status"] == "timed_out"
    assert never_started(ended)
    assert ended["reason"] == "it waited longer than its queue time-out"
    assert ended["finished_at"] > ended["created_at"]


def test_a_queue_timeout_does_not_apply_to_a_running_command(service: Service) -> None:
    timeout = 0.2
    while True:
        gate = Gate(service)
        began = time.monotonic()
        command = service.submit(gate.wait, queue_timeout_seconds=timeout)
        status = once_not_queued(service, command["id"])
        if status == "running":
            break
        # On a slow machine it may not start in that time.
        assert status == "timed_out"
        timeout *= 2
        assert timeout < 100
    time.sleep(max(0, began + timeout + 0.2 - time.monotonic()))
    gate.open()
    assert service.wait(command["id"])["status"] == "succeeded"


def once_not_queued(service: Service, command: str) -> str:
    """Wait until a command is no longer queued; return its status."""

    def status() -> str | None:
        found = str(service.get(command)["status"])
        return None if found == "queued" else found

    return str(eventually(status, "it to start, or not to"))


def test_a_command_stopped_while_queued_never_starts(
    service: Service, busy: dict[str, Any]
) -> None:
    command = service.submit("touch started")
    response = service.client.post(f"/v1/commands/{command['id']}/stop")
    assert response.status_code == 202
    assert response.json()["status"] == "stopped"
    assert never_started(response.json())
    assert response.json()["reason"] == "stopped before it started"
    assert response.json()["finished_at"]
    assert service.get(command["id"]) == response.json()
    again = service.client.post(f"/v1/commands/{command['id']}/stop")
    assert assert_problem(again, "already-finished")["command"] == response.json()


def test_a_queued_command_cannot_be_deleted(service: Service, busy: dict[str, Any]) -> None:
    command = service.submit("true")
    assert_problem(service.client.delete(f"/v1/commands/{command['id']}"), "not-finished")
    stop(service, command)


def test_a_queued_command_can_be_run_again(service: Service, busy: dict[str, Any]) -> None:
    command = service.submit("true", priority=3)
    again = service.client.post(f"/v1/commands/{command['id']}/rerun").json()
    assert (again["status"], again["rerun_of"], again["priority"]) == ("queued", command["id"], 3)
    stop(service, command)
    stop(service, again)


def test_the_output_of_a_queued_command_is_empty_and_incomplete(
    service: Service, busy: dict[str, Any]
) -> None:
    command = service.submit("true")
    response = service.client.get(f"/v1/commands/{command['id']}/output")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["output-complete"] == "false"
    assert response.headers["output-size"] == "0"
    stop(service, command)


def test_a_follow_waits_for_a_queued_command(service: Service, busy: dict[str, Any]) -> None:
    command = service.submit("echo first; sleep 0.1; echo last")
    url = f"/v1/commands/{command['id']}/output"
    with service.client.stream("GET", url, params={"follow": "true"}) as response:
        assert service.get(command["id"])["status"] == "queued"
        stop(service, busy)
        assert b"".join(response.iter_raw()) == b"first\nlast\n"


def test_a_follow_ends_when_a_queued_command_is_stopped(
    service: Service, busy: dict[str, Any]
) -> None:
    command = service.submit("true")
    url = f"/v1/commands/{command['id']}/output"
    with service.client.stream("GET", url, params={"follow": "true"}) as response:
        stop(service, command)
        assert b"".join(response.iter_raw()) == b""


def test_a_follow_ends_with_the_queue_timeout(service: Service, busy: dict[str, Any]) -> None:
    command = service.submit("true", queue_timeout_seconds=0.2)
    response = service.client.get(f"/v1/commands/{command['id']}/output", params={"follow": "true"})
    assert (response.status_code, response.content) == (200, b"")


def test_a_shutdown_leaves_queued_commands_queued(service: Service) -> None:
    first = service.submit("exec sleep 3600")
    service.wait_for(first["id"], "running")
    command = service.submit("echo ran")
    assert service.stop() == 0
    service.start()
    stopped = service.get(first["id"])
    assert (stopped["status"], stopped["reason"]) == ("stopped", "the service was shut down")
    assert service.wait(command["id"])["status"] == "succeeded"
    eventually(lambda: service.bytes_of(command["id"]) == b"ran\n", "its output")
