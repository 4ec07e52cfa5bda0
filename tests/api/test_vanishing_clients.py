"""Clients that disconnect while they send, receive or follow leave nothing behind."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psutil
import pytest

from support.gates import Gate
from support.service import MAINLY_ON_SQLITE, PATIENCE_SECONDS, Service, eventually

MEBIBYTE = 1 << 20


@contextmanager
def connection(service: Service) -> Iterator[socket.socket]:
    """Open a bare connection; reset it at the end instead of closing it."""
    with closing(
        socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_SECONDS)
    ) as opened:
        yield opened
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def head(service: Service, method: str, path: str, **headers: object) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {service.token}",
    ]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def stored(service: Service) -> list[str]:
    items = service.client.get("/v1/commands", params={"limit": 1000}).json()["items"]
    return [item["id"] for item in items]


def connections(service: Service) -> int:
    """Return how many connections the server has, including that of our own client.

    All connections of the machine are searched, since only root may see those of a process.
    """
    mine = [each for each in psutil.net_connections("tcp") if each.laddr[1:] == (service.port,)]
    return sum(each.status == psutil.CONN_ESTABLISHED for each in mine)


def assert_healthy(service: Service, server: int, before: list[str]) -> None:
    """Assert that nothing was stored, nothing hangs, and the same server runs as before."""
    eventually(lambda: connections(service) <= 1, "the connections to be gone")
    assert service.server_pid == server
    assert stored(service) == before
    assert service.run("echo fine")["status"] == "succeeded"


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_disconnects_while_sending_starts_nothing(
    service: Service, kind: str, chunked: bool
) -> None:
    server, before = service.server_pid, stored(service)
    part = b'{"script": "echo half"' if "json" in kind else b"echo half\n"
    for _ in range(5):
        with connection(service) as client:
            if chunked:
                size = {"Transfer_Encoding": "chunked"}
                body = b"%x\r\n%s\r\n" % (len(part), part)
            else:
                size = {"Content_Length": len(part) + 1000}
                body = part
            client.sendall(head(service, "POST", "/v1/commands", Content_Type=kind, **size) + body)
    assert_healthy(service, server, before)


def test_a_client_that_closes_its_sending_side_early_starts_nothing(service: Service) -> None:
    server, before = service.server_pid, stored(service)
    with connection(service) as client:
        headers = {"Content_Type": "text/plain", "Content_Length": 1000}
        client.sendall(head(service, "POST", "/v1/commands", **headers) + b"echo half\n")
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(65536)
        assert b" 201 " not in answer
    assert_healthy(service, server, before)


def test_a_client_that_disconnects_amid_its_headers(service: Service) -> None:
    server, before = service.server_pid, stored(service)
    with connection(service) as client:
        client.sendall(head(service, "POST", "/v1/commands")[:-20])
    assert_healthy(service, server, before)


def test_bytes_that_are_not_http_are_refused(service: Service) -> None:
    server, before = service.server_pid, stored(service)
    for rubbish in (
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        os.urandom(100),
        b"GET / HTTP/9.9\r\n\r\n",
    ):
        with connection(service) as client:
            client.sendall(rubbish + b"\r\n\r\n")
            answer = client.recv(65536)
            assert not answer or b" 400 " in answer.split(b"\r\n")[0]
    assert_healthy(service, server, before)


def test_a_client_that_disconnects_after_its_request_leaves_a_whole_command(
    service: Service,
) -> None:
    """The race decides whether it is stored; a stored command runs to its end."""
    server, before = service.server_pid, stored(service)
    body = b"echo whole"
    headers = {"Content_Type": "text/plain", "Content_Length": len(body)}
    for _ in range(20):
        with connection(service) as client:
            client.sendall(head(service, "POST", "/v1/commands", **headers) + body)
    eventually(lambda: connections(service) <= 1, "the connections to be gone")
    # Earlier requests are stored before this one, if they are stored at all.
    before.append(service.run("echo behind them")["id"])
    new = [command for command in stored(service) if command not in before]
    for command in new:
        assert service.wait(command)["status"] == "succeeded"
        assert service.bytes_of(command) == b"whole\n"
    assert_healthy(service, server, stored(service))


@MAINLY_ON_SQLITE
def test_a_client_that_disconnects_amid_an_answer(service: Service) -> None:
    command = service.run("head -c 30000000 /dev/zero")
    server, before = service.server_pid, stored(service)
    path = f"/v1/commands/{command['id']}/output"
    for query in ("", "?follow=true", "?tail=20000000"):
        with connection(service) as client:
            client.sendall(head(service, "GET", path + query))
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
    assert_healthy(service, server, before)


@MAINLY_ON_SQLITE
def test_a_client_that_reads_nothing_costs_no_memory(service: Service) -> None:
    command = service.run("head -c 40000000 /dev/zero")
    process = psutil.Process(service.server_pid)
    before = process.memory_info().rss
    path = f"/v1/commands/{command['id']}/output?follow=true"
    with connection(service) as first, connection(service) as second:
        for client in (first, second):
            client.sendall(head(service, "GET", path))
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        for _ in range(5):
            assert service.run("true")["status"] == "succeeded"
        assert process.memory_info().rss - before < 30 * MEBIBYTE


def test_clients_that_disconnect_while_following_stop_nothing(service: Service) -> None:
    gate = Gate(service)
    command = service.submit(f"echo begun; {gate.wait}; echo end")
    service.wait_for_output(command["id"], b"begun")
    server, before = service.server_pid, stored(service)
    path = f"/v1/commands/{command['id']}/output?follow=true"
    for _ in range(10):
        with connection(service) as client:
            client.sendall(head(service, "GET", path))
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
    eventually(lambda: connections(service) <= 1, "the followers to be gone")
    assert service.get(command["id"])["status"] == "running"
    assert stored(service) == before
    gate.open()
    assert service.wait(command["id"])["status"] == "succeeded"
    assert service.bytes_of(command["id"]) == b"begun\nend\n"
    assert service.server_pid == server


def test_pipelined_requests_are_all_answered(service: Service) -> None:
    with connection(service) as client:
        client.sendall(head(service, "GET", "/healthz") * 5)
        got = b""
        while got.count(b'{"status":"ok"}') < 5:
            got += client.recv(65536)


def test_a_client_that_closes_its_sending_side_is_answered(service: Service) -> None:
    """As ``nc -N`` does: it sends its request and then closes its sending side."""
    for _ in range(20):
        with socket.create_connection(
            ("127.0.0.1", service.port), timeout=PATIENCE_SECONDS
        ) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert answer.endswith(b'{"status":"ok"}'), answer
