"""Concurrency keys: what a client submits and sees, and when commands of one key run."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import pytest

from support.gates import Gate
from support.problems import assert_problem
from support.service import Service, eventually, running_service

_names = itertools.count()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as shared:
        yield shared


@pytest.fixture
def key() -> str:
    """A key that no other test uses."""
    return f"key {next(_names)}"


@pytest.fixture
def holding(service: Service) -> Iterator[Callable[..., dict[str, Any]]]:
    """Start a command of a key, which runs until the end of the test."""
    gate = Gate(service)
    started = []

    def hold(key: str, limit: int = 1, trap: str = "") -> dict[str, Any]:
        script = f"{trap}echo started; {gate.wait}"
        command = service.submit(script, concurrency={"key": key, "limit": limit})
        service.wait_for_output(command["id"], b"started")
        started.append(command["id"])
        return service.get(command["id"])

    yield hold
    gate.open()
    for command in started:
        service.wait(command)


def post(service: Service, script: str, **concurrency: Any) -> httpx.Response:
    return service.client.post("/v1/commands", json={"script": script, "concurrency": concurrency})


def test_a_command_shows_its_key(service: Service, key: str) -> None:
    plain = service.submit("true")
    assert (plain["concurrency"], plain["waiting_for"]) == (None, None)
    wanted = {"key": key, "limit": 2, "when_busy": "replace"}
    command = service.submit("true", concurrency=wanted)
    assert command["concurrency"] == wanted
    assert command["waiting_for"] is None
    assert service.wait(command["id"])["concurrency"] == wanted
    (item,) = service.client.get("/v1/commands?limit=1").json()["items"]
    assert (item["concurrency"], item["waiting_for"]) == (wanted, None)
    again = service.client.post(f"/v1/commands/{command['id']}/rerun").json()
    assert again["concurrency"] == wanted
    defaults = service.submit("true", concurrency={"key": key})
    assert defaults["concurrency"] == {"key": key, "limit": 1, "when_busy": "queue"}


def test_the_fields_are_query_parameters_of_a_script(service: Service, key: str) -> None:
    query = {"concurrency_key": key, "concurrency_limit": 3, "when_busy": "reject"}
    headers = {"Content-Type": "text/plain"}
    response = service.client.post("/v1/commands", content="true", params=query, headers=headers)
    assert response.status_code == 201
    wanted = {"key": key, "limit": 3, "when_busy": "reject"}
    assert response.json()["concurrency"] == wanted
    query = {"concurrency_limit": "0"}
    response = service.client.post("/v1/commands", content="true", params=query, headers=headers)
    fields = [error["field"] for error in assert_problem(response, "validation")["errors"]]
    assert fields == ["concurrency.key", "concurrency.limit"]


@pytest.mark.parametrize(
    ("concurrency", "field", "message"),
    [
        ({}, "concurrency.key", "is required"),
        ({"key": ""}, "concurrency.key", "must not be empty"),
        ({"key": "k" * 201}, "concurrency.key", "must have at most 200 characters"),
        ({"key": "a\0b"}, "concurrency.key", "must not contain a NUL character"),
        ({"key": "k", "limit": 0}, "concurrency.limit", "must be at least 1"),
        ({"key": "k", "limit": 10_001}, "concurrency.limit", "must be at most 10000"),
        (
            {"key": "k", "when_busy": "wait"},
            "concurrency.when_busy",
            "must be 'queue', 'reject' or 'replace'",
        ),
        ({"key": "k", "limits": 1}, "concurrency.limits", "is not a known field"),
        ("k", "concurrency", "must be a JSON object"),
    ],
)
def test_a_key_that_cannot_be_used(
    service: Service, concurrency: Any, field: str, message: str
) -> None:
    response = service.client.post(
        "/v1/commands", json={"script": "true", "concurrency": concurrency}
    )
    (error,) = assert_problem(response, "validation")["errors"]
    assert error == {"field": field, "message": message}


def test_the_next_command_of_a_key_starts_when_one_ends(
    service: Service, key: str, holding: Callable[..., dict[str, Any]]
) -> None:
    first = holding(key)
    second = post(service, "true", key=key).json()
    third = post(service, "true", key=key).json()
    urgent = service.submit("true", priority=1, concurrency={"key": key})
    for command in (second, third, urgent):
        assert (command["status"], command["waiting_for"]) == ("queued", "concurrency")
        assert service.get(command["id"]) == command
    listed = service.client.get("/v1/commands?limit=3").json()["items"]
    assert [item["waiting_for"] for item in listed] == ["concurrency"] * 3
    # Commands of other keys and without a key are not held up.
    assert service.run("true", concurrency={"key": f"{key}!"})["status"] == "succeeded"
    assert service.run("true")["status"] == "succeeded"
    stopped = service.client.post(f"/v1/commands/{second['id']}/stop").json()
    assert (stopped["status"], stopped["waiting_for"]) == ("stopped", None)
    service.client.post(f"/v1/commands/{first['id']}/stop", json={"grace_seconds": 0})
    ended = [service.wait(command["id"]) for command in (first, urgent, third)]
    assert [command["waiting_for"] for command in ended] == [None] * 3
    for before, after in itertools.pairwise(ended):
        assert before["finished_at"] <= after["started_at"]


def test_a_stopped_command_lets_the_next_one_of_its_key_go(
    service: Service, key: str, holding: Callable[..., dict[str, Any]]
) -> None:
    """The stopped one waits because its own limit is smaller; nothing else ends."""
    holding(key, limit=5)
    narrow = post(service, "true", key=key, limit=1).json()
    wide = post(service, "true", key=key, limit=5).json()
    assert [each["waiting_for"] for each in (narrow, wide)] == ["concurrency"] * 2
    service.client.post(f"/v1/commands/{narrow['id']}/stop")
    assert service.wait(wide["id"])["status"] == "succeeded"
    again = service.submit("true", queue_timeout_seconds=0.2, concurrency={"key": key, "limit": 1})
    wide = post(service, "true", key=key, limit=5).json()
    assert service.wait(again["id"])["status"] == "timed_out"
    assert service.wait(wide["id"])["status"] == "succeeded"


def test_a_rejected_command(
    service: Service, key: str, holding: Callable[..., dict[str, Any]]
) -> None:
    first = holding(key)
    headers = {"Idempotency-Key": key}
    body = {"script": "true", "concurrency": {"key": key, "when_busy": "reject"}}
    newest = service.client.get("/v1/commands?limit=1").json()["items"]

    def submit() -> httpx.Response:
        return service.client.post("/v1/commands", json=body, headers=headers)

    problem = assert_problem(submit(), "busy")
    assert problem["detail"].startswith(f"cannot submit the command: concurrency key {key} already")
    assert service.client.get("/v1/commands?limit=1").json()["items"] == newest
    service.client.post(f"/v1/commands/{first['id']}/stop", json={"grace_seconds": 0})
    service.wait(first["id"])
    # A refusal is not kept for the Idempotency-Key.
    response = submit()
    assert (response.status_code, "idempotent-replayed" in response.headers) == (201, False)
    service.wait(response.json()["id"])
    again = service.client.post(f"/v1/commands/{response.json()['id']}/rerun")
    assert again.status_code == 201


def test_a_replaced_command_ends_before_the_next_one_starts(
    service: Service, key: str, holding: Callable[..., dict[str, Any]]
) -> None:
    """It ignores SIGTERM until its own grace is over; a user may shorten that."""
    first = holding(key, trap="trap '' TERM; ")
    waiting = post(service, "true", key=key).json()
    older = post(service, "true", key=key, when_busy="replace").json()
    replacing = post(service, "true", key=key, when_busy="replace").json()
    for command, by in ((waiting, older), (older, replacing)):
        ended = service.get(command["id"])
        reason = f"it was replaced by command {by['id']}"
        assert (ended["status"], ended["reason"]) == ("stopped", reason)
        assert (ended["started_at"], ended["waiting_for"]) == (None, None)
    service.wait_for(first["id"], "stopping")
    assert service.get(replacing["id"])["waiting_for"] == "concurrency"
    service.client.post(f"/v1/commands/{first['id']}/stop", json={"grace_seconds": 0})
    ended = service.wait(first["id"])
    reason = f"it was replaced by command {older['id']}"
    assert (ended["status"], ended["signal"], ended["reason"]) == ("stopped", "SIGKILL", reason)
    started = service.wait(replacing["id"])
    assert started["status"] == "succeeded"
    assert ended["finished_at"] <= started["started_at"]


def test_a_follower_of_a_replaced_command_sees_its_end(
    service: Service, key: str, holding: Callable[..., dict[str, Any]]
) -> None:
    first = holding(key)
    waiting = post(service, "true", key=key).json()
    with ThreadPoolExecutor(2) as threads:
        waits = [
            threads.submit(service.client.get, f"/v1/commands/{command['id']}?wait=60")
            for command in (first, waiting)
        ]
        eventually(lambda: _waiting_requests(service) >= 2, "both to wait")
        replacing = post(service, "true", key=key, when_busy="replace").json()
        answers = [wait.result().json() for wait in waits]
    reason = f"it was replaced by command {replacing['id']}"
    assert [(each["status"], each["reason"]) for each in answers] == [("stopped", reason)] * 2
    assert [service.get(each["id"]) for each in answers] == answers


def _waiting_requests(service: Service) -> int:
    for line in service.client.get("/metrics").text.splitlines():
        if line.startswith("scriptservice_followers") and 'kind="wait"' in line:
            return int(float(line.rpartition(" ")[2]))
    return 0


def test_several_commands_of_one_key_run_at_a_time(
    service: Service, key: str, holding: Callable[..., dict[str, Any]]
) -> None:
    holding(key, limit=2)
    holding(key, limit=2)
    third = post(service, "true", key=key, limit=2).json()
    assert third["waiting_for"] == "concurrency"
    replacing = post(service, "true", key=key, limit=2, when_busy="replace").json()
    assert service.wait(replacing["id"])["status"] == "succeeded"
    assert service.get(third["id"])["status"] == "stopped"


def test_a_command_that_waits_for_a_place_says_so() -> None:
    with running_service("--max-running", "1") as service:
        gate = Gate(service)
        first = service.submit(gate.wait)
        plain = service.submit("true")
        keyed = service.submit("true", concurrency={"key": "k"})
        assert [each["waiting_for"] for each in (plain, keyed)] == ["capacity"] * 2
        assert [service.get(each["id"])["waiting_for"] for each in (first, plain, keyed)] == [
            None, "capacity", "capacity",
        ]  # fmt: skip
        gate.open()
        assert service.wait(keyed["id"])["status"] == "succeeded"
