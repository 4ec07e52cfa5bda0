"""Attaching over a WebSocket: who may, what is sent and taken, and clients that behave badly."""

import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2 as httpx
import psutil
import pytest

from support.gates import Gate
from support.service import MAINLY_ON_SQLITE, PATIENCE_SECONDS, Service, eventually
from support.websocket import Closed, WebSocket, attach

pytestmark = MAINLY_ON_SQLITE

ID = "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55"
MIB = 1 << 20


@pytest.fixture
def cat(service: Service) -> Iterator[str]:
    """The id of a running command that repeats its input."""
    command = service.submit("exec cat", interactive=True, grace_seconds=0)["id"]
    service.wait_for(command, "running")
    yield command
    service.client.post(f"/v1/commands/{command}/stop")


def close_input(service: Service, command: str) -> None:
    response = service.client.post(f"/v1/commands/{command}/stdin?close=true")
    assert response.status_code == 202, response.text


# Who may


@pytest.mark.parametrize(
    ("headers", "status", "kind"),
    [
        ({"Authorization": None}, 401, "unauthenticated"),
        ({"Authorization": "Bearer wrong"}, 401, "unauthenticated"),
        ({"Host": "rebound.example"}, 421, "host-not-allowed"),
        ({"Origin": "http://elsewhere.example"}, 403, "forbidden"),
        ({"Sec_Fetch_Site": "cross-site"}, 403, "forbidden"),
        ({"Upgrade": None}, 400, "bad-request"),
        ({"Upgrade": "h2c"}, 400, "bad-request"),
        ({"Connection": "keep-alive"}, 400, "bad-request"),
        ({"Sec_WebSocket_Version": "8"}, 400, "bad-request"),
        ({"Sec_WebSocket_Key": "short"}, 400, "bad-request"),
        ({"Sec_WebSocket_Key": None}, 400, "bad-request"),
        ({"Content_Length": "1"}, 400, "bad-request"),
    ],
)
def test_refusals_are_ordinary_answers(
    service: Service, cat: str, headers: dict[str, str | None], status: int, kind: str
) -> None:
    with WebSocket(service, f"/v1/commands/{cat}/attach", **headers) as answer:
        assert answer.status == status, answer.problem
        assert answer.problem["type"] == f"/problems/{kind}"
        assert answer.problem["instance"] == f"/v1/commands/{cat}/attach"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        if status == 400:
            assert answer.headers["sec-websocket-version"] == "13"


def test_commands_to_which_nobody_can_attach(service: Service, cat: str) -> None:
    def refused(command: str, query: str = "") -> dict[str, Any]:
        with WebSocket(service, f"/v1/commands/{command}/attach{query}") as answer:
            return answer.problem

    ended = service.run("true", interactive=True)["id"]
    gate = Gate(service)
    deaf = service.submit(gate.block)["id"]
    assert refused(ID)["type"] == "/problems/not-found"
    assert refused("x")["status"] == 404
    finished = refused(ended)
    assert (finished["status"], finished["type"]) == (409, "/problems/already-finished")
    assert finished["command"]["id"] == ended
    assert "cannot attach to command" in finished["detail"]
    assert refused(deaf)["type"] == "/problems/not-interactive"
    assert refused(cat, "?after=1")["errors"][0]["field"] == "after"
    assert refused(cat, "?after=x")["status"] == 422
    assert refused(cat, "?before=1")["status"] == 422
    gate.open()


def test_other_requests_to_it(service: Service, cat: str) -> None:
    path = f"/v1/commands/{cat}/attach"
    assert service.client.get(path).status_code == 400
    assert service.client.head(path).status_code == 400
    posted = service.client.post(path)
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")


def test_an_upgrade_that_no_route_takes_is_ignored(service: Service) -> None:
    with WebSocket(service, "/v1/hosts") as answer:
        assert (answer.status, list(answer.problem)) == (200, ["items"])


def test_a_session_needs_its_own_origin_and_ends_its_sockets(service: Service, cat: str) -> None:
    path = f"/v1/commands/{cat}/attach"
    own = f"http://127.0.0.1:{service.port}"
    with httpx.Client(base_url=service.url, verify=False, timeout=PATIENCE_SECONDS) as browser:
        signed_in = browser.post("/v1/session", json={"token": service.token}).json()
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        page: dict[str, str | None] = {"Authorization": None, "Cookie": cookie}
        for origin, status in [(None, 403), ("http://elsewhere.example", 403), ("null", 403)]:
            with WebSocket(service, path, **page, Origin=origin) as answer:
                assert (answer.status, answer.problem["type"]) == (status, "/problems/forbidden")
        with attach(service, cat, **page, Origin=own) as attached:
            assert attached.json()["start"]["status"] == "running"
            attached.send(b"hello\n")
            assert attached.receive() == b"hello\n"
            browser.delete("/v1/session", headers={"X-CSRF-Token": signed_in["csrf_token"]})
            assert attached.rest()[2].code == 1008


# What is sent and taken


def test_a_conversation(service: Service, cat: str) -> None:
    with attach(service, cat) as first:
        start = {"position": 0, "stdin_offset": 0, "status": "running"}
        assert first.json() == {"start": start}
        first.send(b"one\n")
        assert first.receive() == b"one\n"
        with attach(service, cat) as now, attach(service, cat, "?after=2") as earlier:
            assert now.json()["start"] == {"position": 4, "stdin_offset": 4, "status": "running"}
            assert earlier.json()["start"]["position"] == 2
            now.send(b"\xff\0two\n")
            assert now.receive() == b"\xff\0two\n"
            assert earlier.read_until(b"two\n") == b"e\n\xff\0two\n"
            close_input(service, cat)
            final = service.wait(cat)
            del final["script"]
            for each in (first, now, earlier):
                output, texts, closed = each.rest()
                assert texts == [{"end": final}]
                assert (output[-4:] or b"two\n", closed.code) == (b"two\n", 1000)
    metrics = service.client.get("/metrics").text
    assert re.search(r"requests_total{.*attach.*101.*} [1-9]", metrics)


def test_text_that_is_not_understood_is_answered(service: Service, cat: str) -> None:
    with attach(service, cat) as attached:
        attached.json()
        expected = {
            "no json": (400, "bad-request"),
            "{}": (400, "bad-request"),
            '{"resize": {"rows": 0, "cols": 0}}': (422, "validation"),
            '{"signal": "SIGNOTHING"}': (422, "validation"),
        }
        for text, (status, kind) in expected.items():
            attached.send(text)
            problem = attached.json()["error"]
            assert (problem["status"], problem["type"]) == (status, f"/problems/{kind}")
        attached.send(b"goes on\n")
        assert attached.receive() == b"goes on\n"


def test_signals_and_sizes(service: Service) -> None:
    script = "trap 'stty size' WINCH; trap 'echo got it' USR1; stty -echo; echo ready\n"
    script += "while :; do read -r -t 0.1 _; done"
    command = service.submit(script, pty={"rows": 20, "cols": 70}, grace_seconds=0)["id"]
    with attach(service, command, "?after=0") as attached:
        attached.json()
        attached.read_until(b"ready\r\n")
        # A flood of sizes costs nothing, and the last one holds.
        for number in range(2000):
            attached.send({"resize": {"rows": 1 + number % 50, "cols": 100}})
        attached.send({"resize": {"rows": 33, "cols": 111}})
        attached.read_until(b"33 111\r\n")
        attached.send({"signal": "SIGUSR1"})
        attached.read_until(b"got it\r\n")
        service.client.post(f"/v1/commands/{command}/stop")
        _, texts, closed = attached.rest()
        assert (texts[-1]["end"]["status"], closed.code) == ("stopped", 1000)


def test_a_queued_command_waits_and_so_does_its_input(make_service: Callable[..., Service]) -> None:
    service = make_service("--max-running", "1", "--max-connections", "8").start()
    gate = Gate(service)
    first = service.submit(gate.block)["id"]
    service.wait_for(first, "running")
    queued = service.submit("head -c 6", interactive=True)["id"]
    for _ in range(20):  # each one counts while it is open, and not longer
        attach(service, queued).close()
    with attach(service, queued) as attached:
        assert attached.json()["start"] == {"position": 0, "stdin_offset": 0, "status": "queued"}
        attached.send(b"early")
        attached.send(b"!")
        gate.open()
        output, texts, closed = attached.rest()
    assert (output, closed.code) == (b"early!", 1000)
    assert texts[-1]["end"]["status"] == "succeeded"


# Clients that behave badly


def test_while_a_script_does_not_read_its_client_has_to_wait(service: Service) -> None:
    gate = Gate(service)
    size = 14 * MIB  # more than the sockets of both sides hold
    script = f"{gate.block}; head -c {size} | sha256sum"
    command = service.submit(script, interactive=True)["id"]
    piece = bytes(range(256)) * (256 << 2)  # 256 KiB
    data = piece * (size // len(piece))
    with attach(service, command) as attached, attach(service, command) as leaver:
        attached.json()
        leaver.json()
        sent = threading.Event()

        def send() -> None:
            for start in range(0, size, len(piece)):
                attached.send(data[start : start + len(piece)])
            sent.set()

        sender = threading.Thread(target=send)
        sender.start()
        eventually(lambda: waiting(service, command) > 0, "input to wait")
        # Another client cannot send either; it leaves, and nobody waits for it.
        response = service.client.post(f"/v1/commands/{command}/stdin", content=b"x" * MIB)
        assert response.status_code == 429, response.text
        assert not sent.is_set()
        leaver.send(b"")
        leaver.close()
        gate.open()
        sender.join(PATIENCE_SECONDS)
        output, texts, _ = attached.rest()
    assert output.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert texts[-1]["end"]["status"] == "succeeded"


def waiting(service: Service, command: str) -> int:
    """Return how much input was accepted, once no more fits."""
    answer = service.client.post(f"/v1/commands/{command}/stdin?offset=0", content=b"x" * MIB)
    assert answer.status_code in (409, 429), answer.text
    offset = answer.json().get("offset", 0)
    return int(offset) if offset >= MIB else 0


def test_a_message_that_is_too_large(service: Service, cat: str) -> None:
    with attach(service, cat) as attached:
        attached.json()
        attached.socket.sendall(attached.frame(b"x" * (MIB + 1)))
        assert attached.receive() == Closed(1009, f"a message has more than {MIB} bytes")
    with attach(service, cat) as attached:
        attached.json()
        attached.send(b"x" * MIB)
        received = 0
        while received < MIB:
            message = attached.receive()
            assert isinstance(message, bytes)
            received += len(message)


def test_fifty_clients_a_follower_and_one_that_does_not_read(service: Service) -> None:
    gate = Gate(service)
    size = 4 * MIB
    script = f"{gate.block}; head -c {size} /dev/urandom; read -r _"
    command = service.submit(script, interactive=True)["id"]
    server = psutil.Process(service.server_pid)
    with attach(service, command) as stuck:
        stuck.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        attached = [attach(service, command) for _ in range(50)]
        before = server.memory_info().rss
        results: list[tuple[str, int | None]] = []

        def read(each: WebSocket) -> None:
            output, texts, closed = each.rest()
            assert [list(text) for text in texts] == [["start"], ["end"]]
            results.append((hashlib.sha256(output).hexdigest(), closed.code))

        readers = [threading.Thread(target=read, args=(each,)) for each in attached]
        for reader in readers:
            reader.start()
        gate.open()
        stored = eventually(
            lambda: (now := service.get(command))["output"]["bytes"] == size and now, "all output"
        )
        assert stored["status"] == "running"
        attached[0].send(b"\n")
        with service.client.stream("GET", f"/v1/commands/{command}/output?follow=true") as follower:
            expected = hashlib.sha256(follower.read()).hexdigest()
        for reader in readers:
            reader.join(PATIENCE_SECONDS)
        assert results == [(expected, 1000)] * 50
        # 51 clients cost less than the output that one of them did not read.
        assert server.memory_info().rss - before < 51 * 256 * 1024 + 16 * MIB
    for each in attached:
        each.socket.close()
    eventually(lambda: followers(service) == 0, "all clients to be gone")


def followers(service: Service) -> int:
    text = service.client.get("/metrics").text
    (found,) = re.findall(r'followers{kind="attach"} (\d+)', text)
    return int(found)


def test_clients_that_go_away(service: Service, cat: str) -> None:
    for end in ("close", "reset", "eof"):
        with attach(service, cat) as attached:
            attached.json()
            attached.send(end.encode() + b"\n")
            if end == "close":
                attached.close()
            elif end == "reset":
                linger = b"\x01\0\0\0\0\0\0\0"
                attached.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    eventually(lambda: followers(service) == 0, "all clients to be gone")
    with attach(service, cat, "?after=0") as attached:
        attached.json()
        # What they had sent before they left has arrived, as far as it had left their machine.
        assert b"close\n" in attached.read_until(b"close\n")


def test_a_client_that_does_not_wait_for_the_answer(service: Service, cat: str) -> None:
    """Whatever becomes of it, the service goes on."""
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE_SECONDS) as connection:
        head = (
            f"GET /v1/commands/{cat}/attach HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            f"Authorization: Bearer {service.token}\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        connection.sendall(head.encode() * 3 + b"\x82\x81\0\0\0\0x" * 100)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    with attach(service, cat) as attached:
        attached.json()
        attached.send(json.dumps({"resize": {"rows": 1, "cols": 1}}))  # no terminal: no effect
        attached.send(b"still there\n")
        attached.read_until(b"still there\n")
