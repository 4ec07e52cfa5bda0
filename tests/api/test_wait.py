"""``?wait`` holds the answer until the command is finished or the time is over."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import httpx2 as httpx
import pytest

from support.gates import Gate
from support.problems import assert_invalid, assert_problem
from support.scripts import stop
from support.service import MAINLY_ON_SQLITE, PATIENCE_SECONDS, Service, eventually

NEVER = "exec sleep 3600"
LONGEST_SECONDS = 60
"""The longest time that an answer is held. An earlier answer did not wait for the time to pass."""


def timed(ask: Callable[[], httpx.Response]) -> tuple[httpx.Response, float]:
    began = time.monotonic()
    answer = ask()
    return answer, time.monotonic() - began


def wait_for_held_requests(service: Service, count: int) -> None:
    """Wait until ``count`` requests are held for the end of a command."""
    line = f'scriptservice_followers{{kind="wait"}} {count}.0'
    eventually(lambda: line in service.client.get("/metrics").text, f"{count} to wait")


def test_submit_and_wait_answers_with_the_end(service: Service) -> None:
    answer, seconds = timed(
        lambda: service.client.post(
            "/v1/commands?wait=60", json={"script": "sleep 0.3; echo done; exit 3"}
        )
    )
    command = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/commands/{command['id']}"
    assert (command["status"], command["exit_code"]) == ("failed", 3)
    assert command["output"]["bytes"] == 5
    assert service.bytes_of(command["id"]) == b"done\n"
    assert command == service.get(command["id"])
    assert 0.3 <= seconds < LONGEST_SECONDS


def test_a_script_as_the_body_can_be_waited_for(service: Service) -> None:
    answer = service.client.post(
        "/v1/commands?wait=60&name=raw",
        content=b"echo $((6 * 7))",
        headers={"Content-Type": "text/plain"},
    )
    assert answer.status_code == 201
    assert (answer.json()["status"], answer.json()["name"]) == ("succeeded", "raw")


def test_get_and_rerun_wait_too(service: Service) -> None:
    command = service.submit("sleep 0.3; exit 4")
    found = service.client.get(f"/v1/commands/{command['id']}?wait=60")
    assert (found.status_code, found.json()["exit_code"]) == (200, 4)
    again = service.client.post(f"/v1/commands/{command['id']}/rerun?wait=60")
    assert (again.status_code, again.json()["exit_code"]) == (201, 4)
    assert again.json()["rerun_of"] == command["id"]
    assert again.headers["location"] == f"/v1/commands/{again.json()['id']}"


def test_a_finished_command_is_returned_at_once(service: Service) -> None:
    command = service.run("true")
    answer, seconds = timed(
        lambda: service.client.get(f"/v1/commands/{command['id']}", params={"wait": "60"})
    )
    assert answer.json()["status"] == "succeeded"
    assert seconds < LONGEST_SECONDS


@pytest.mark.parametrize("wait", ["0", "0.0", "0.25", "2.5e-1", "1"])
def test_after_the_wait_the_command_is_returned_as_it_is(service: Service, wait: str) -> None:
    command = service.submit(NEVER)

    def ask(method: str, path: str, **more: Any) -> httpx.Response:
        """Repeat until an answer comes on time: none is early, but the machine may delay some."""
        for _ in range(10):
            answer, seconds = timed(
                lambda: service.client.request(method, path, params={"wait": wait}, **more)
            )
            assert answer.json()["status"] in ("queued", "running")
            assert seconds >= float(wait)
            if seconds < float(wait) + 3:
                return answer
            if method == "POST":
                stop(service, answer.json()["id"], grace_seconds=0)
        raise AssertionError(f"each answer came late, at last after {seconds} s")

    answer = ask("GET", f"/v1/commands/{command['id']}")
    assert answer.status_code == 200
    stop(service, command["id"])
    answer = ask("POST", "/v1/commands", json={"script": NEVER})
    assert answer.status_code == 201
    again = service.client.post(f"/v1/commands/{answer.json()['id']}/rerun", params={"wait": wait})
    assert again.status_code == 201
    for each in (answer, again):
        stop(service, each.json()["id"], grace_seconds=0)


@pytest.mark.parametrize(
    "wait", ["60.1", "61", "1e9", "-1", "-0.001", "nan", "inf", "-inf", "abc", "", "1s", "0x1"]
)
def test_an_invalid_wait_is_refused(service: Service, wait: str) -> None:
    command = service.run("true")["id"]
    before = service.client.get("/v1/commands?limit=1").json()["items"]
    client, parameters = service.client, {"wait": wait}
    json, raw = {"json": {"script": "true"}}, {"content": b"true"}
    plain = {"Content-Type": "text/plain"}
    for answer in (
        client.get(f"/v1/commands/{command}", params=parameters),
        client.post("/v1/commands", params=parameters, **json),
        client.post("/v1/commands", params=parameters, headers=plain, **raw),
        client.post(f"/v1/commands/{command}/rerun", params=parameters),
    ):
        assert_invalid(answer, "wait")
    assert service.client.get("/v1/commands?limit=1").json()["items"] == before


def test_sixty_seconds_are_allowed(service: Service) -> None:
    answer = service.client.post("/v1/commands?wait=60", json={"script": "true"})
    assert answer.json()["status"] == "succeeded"


def test_a_repeated_wait_or_another_parameter_is_refused(service: Service) -> None:
    command = service.run("true")["id"]
    assert_invalid(service.client.get(f"/v1/commands/{command}?wait=1&wait=1"), "wait")
    assert_invalid(service.client.get(f"/v1/commands/{command}?wait=1&waits=1"), "waits")
    unknown = "/v1/commands/0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55?wait=60"
    assert_problem(service.client.get(unknown), "not-found")


def test_many_requests_wait_for_one_command(service: Service) -> None:
    gate = Gate(service)
    command = service.submit(f"{gate.wait}; exit 7")
    found: list[Any] = []

    def ask() -> None:
        url = f"{service.url}/v1/commands/{command['id']}?wait=60"
        answer = httpx.get(url, headers=service.headers, timeout=PATIENCE_SECONDS, verify=False)
        found.append(answer.json()["exit_code"])

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    wait_for_held_requests(service, 20)
    gate.open()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert found == [7] * 20


def test_a_client_that_disconnects_stops_nothing(service: Service) -> None:
    gate = Gate(service)
    body = json.dumps({"script": f"{gate.wait}; echo still here", "name": "left alone"}).encode()
    with closing(
        socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_SECONDS)
    ) as connection:
        connection.sendall(
            b"POST /v1/commands?wait=60 HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\n"
            + f"Authorization: Bearer {service.token}\r\nContent-Length: {len(body)}\r\n\r\n"
            .encode()
            + body
        )  # fmt: skip
        items = eventually(
            lambda: service.client.get("/v1/commands", params={"q": "left alone"}).json()["items"],
            "the command",
        )
        wait_for_held_requests(service, 1)
    gate.open()
    ended = service.wait(items[0]["id"])
    assert ended["status"] == "succeeded"
    assert service.bytes_of(ended["id"]) == b"still here\n"


def test_a_deletion_while_a_request_waits(service: Service) -> None:
    """A command can only be deleted when it is finished; the waiting request gets it, or 404."""
    gate = Gate(service)
    command = service.submit(gate.wait)
    answers: list[httpx.Response] = []
    url = f"{service.url}/v1/commands/{command['id']}"
    waiting = threading.Thread(
        target=lambda: answers.append(
            httpx.get(
                f"{url}?wait=60", headers=service.headers, timeout=PATIENCE_SECONDS, verify=False
            )
        )
    )
    waiting.start()
    wait_for_held_requests(service, 1)
    gate.open()
    eventually(
        lambda: service.client.delete(f"/v1/commands/{command['id']}").status_code == 204,
        "its end",
    )
    waiting.join(PATIENCE_SECONDS)
    assert answers[0].status_code in (200, 404)


@MAINLY_ON_SQLITE
def test_a_shutdown_answers_at_once(make_service: Any) -> None:
    """It answers while scripts still end, and long before the requested time."""
    flags = ("--max-running", "1", "--shutdown-grace-seconds", "3600")
    service = make_service(*flags).start()
    gate = Gate(service)
    running = service.submit(f"trap '' TERM; echo up; {gate.wait}", grace_seconds=3600)
    service.wait_for_output(running["id"], b"up\n")
    answers: dict[str, tuple[httpx.Response, float]] = {}
    headers = service.headers

    def ask(name: str, method: str, path: str, **more: Any) -> None:
        answers[name] = timed(
            lambda: httpx.request(
                method,
                service.url + path,
                headers=headers,
                timeout=PATIENCE_SECONDS,
                params={"wait": "60"},
                verify=False,
                **more,
            )
        )

    path = f"/v1/commands/{running['id']}"
    threads = [
        threading.Thread(target=ask, args=("get", "GET", path)),
        threading.Thread(
            target=ask, args=("submit", "POST", "/v1/commands"), kwargs={"json": {"script": ":"}}
        ),
    ]
    for thread in threads:
        thread.start()
    eventually(
        lambda: len(service.client.get("/v1/commands").json()["items"]) == 2, "the second submit"
    )
    wait_for_held_requests(service, 2)
    assert service.process is not None
    service.close_client()
    service.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    for answer, seconds in answers.values():
        assert seconds < LONGEST_SECONDS
        assert answer.json()["status"] in ("queued", "running", "stopping")
    assert {name: answer.status_code for name, (answer, _) in answers.items()} == {
        "get": 200,
        "submit": 201,
    }
    gate.open()
    assert service.process.wait(PATIENCE_SECONDS) == 0


def test_a_wait_that_begins_near_the_end_does_not_miss_it(service: Service) -> None:
    command = service.submit("for i in {1..2000}; do echo $i; done; exit 9")
    found, seconds = timed(lambda: service.client.get(f"/v1/commands/{command['id']}?wait=60"))
    assert (found.json()["exit_code"], seconds < LONGEST_SECONDS) == (9, True)
    for code in range(40):
        answer, seconds = timed(
            lambda code=code: service.client.post(  # type: ignore[misc]
                "/v1/commands?wait=60", json={"script": f"exit {code}"}
            )
        )
        assert (answer.json()["exit_code"], seconds < LONGEST_SECONDS) == (code, True)
