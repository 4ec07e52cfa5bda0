"""Clients that hold connections and send nothing, or never finish; other clients are not delayed.

None of them has a token, since anybody who reaches the port can do this.
"""

import contextlib
import resource
import socket
import time
from collections.abc import Callable, Iterator

import httpx2 as httpx
import psutil
import pytest

from support.gates import Gate
from support.oracle import Trial, every_kind
from support.scripts import keeper_of, resident_bytes
from support.service import ON_SQLITE, PATIENCE_SECONDS, Service, eventually
from support.upgrades import Installation

IDLE = 5000
QUICK_TIMES = 20
"""How many times longer an answer may take while they are connected."""

SOME_BYTES = 60 << 20
"""The memory that 5,000 connections may take."""

LEFT_BYTES = 40 << 20
"""The memory that may remain afterwards; Python does not return all of it."""

HEAD = b"POST /v1/commands HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def room() -> Iterator[None]:
    """Allows this process as many descriptors as possible."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def connect(
    make_service: Callable[..., Service],
) -> Iterator[Callable[[Service, bytes], socket.socket]]:
    """Returns a function that connects and sends bytes; all connections are closed at the end."""
    with contextlib.ExitStack() as opened:

        def connect(service: Service, first: bytes) -> socket.socket:
            client = socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_SECONDS)
            opened.enter_context(contextlib.closing(client))
            client.sendall(first)
            return client

        yield connect


@pytest.fixture
def installation() -> Iterator[Installation]:
    made = Installation()
    yield made
    made.remove()


def patient(installation: Installation, seconds: float) -> None:
    """Set after how many seconds the service closes a connection with an unfinished request."""
    for name in ("HEAD_SECONDS", "BODY_SECONDS"):
        installation.change(
            "server/http/request_limits.py", f"{name} = 30.0\n", f"{name} = {seconds}\n"
        )


def answer_seconds(service: Service) -> float:
    """Return the seconds until a new client gets an answer: the least of several measurements."""

    def once() -> float:
        began = time.monotonic()
        answer = httpx.get(f"{service.url}/healthz", timeout=PATIENCE_SECONDS, verify=False)
        assert answer.status_code == 200
        return time.monotonic() - began

    return min(once() for _ in range(10))


def is_closed(client: socket.socket) -> bool:
    """Return whether the service has closed a connection; answers before that are discarded."""
    client.setblocking(False)
    try:
        while client.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def keep_talking(talks: dict[socket.socket, bytes]) -> None:
    """Send a little more on every connection that is still open."""
    for client, word in talks.items():
        with contextlib.suppress(OSError):
            client.send(word)


@ON_SQLITE
@pytest.mark.needs_root
def test_thousands_of_idle_connections_delay_nobody(
    make_service: Callable[..., Service],
    installation: Installation,
    room: None,
    connect: Callable[..., socket.socket],
) -> None:
    patient(installation, 3600)
    service = make_service(python=installation.python).start()
    trial = Trial.on_idle_service(service)
    server = psutil.Process(service.server_pid)
    service.close_client()
    alone_seconds = answer_seconds(service)
    eventually(lambda: not server.net_connections("tcp")[1:], "our own connections to be gone")
    rest, rest_bytes = server.num_fds(), resident_bytes(server.pid)
    idle = [connect(service, b"") for _ in range(IDLE)]
    eventually(lambda: server.num_fds() >= rest + IDLE, "all to be accepted")
    held_bytes = resident_bytes(server.pid)
    assert answer_seconds(service) < QUICK_TIMES * alone_seconds
    trial.submit_all(every_kind())
    trial.verify()
    assert not any(map(is_closed, idle))
    service.close_client()
    for client in idle:
        client.close()
    eventually(lambda: server.num_fds() <= rest + 2, "the connections to be gone")
    print(f"{held_bytes - rest_bytes} bytes, then {resident_bytes(server.pid) - rest_bytes}")
    assert held_bytes - rest_bytes < SOME_BYTES
    assert resident_bytes(server.pid) - rest_bytes < LEFT_BYTES
    assert answer_seconds(service) < QUICK_TIMES * alone_seconds
    assert service.server_pid == server.pid


@ON_SQLITE
@pytest.mark.needs_root
def test_connections_that_never_finish_a_request_are_closed(
    make_service: Callable[..., Service],
    installation: Installation,
    connect: Callable[..., socket.socket],
) -> None:
    patient(installation, 2)
    service = make_service(python=installation.python).start()
    trial = Trial.on_idle_service(service)
    server = psutil.Process(service.server_pid)
    service.close_client()
    eventually(lambda: not server.net_connections("tcp")[1:], "our own connection to be gone")
    rest = server.num_fds()
    gate = Gate(service)
    follower = service.submit(f"echo begun; {gate.block}; echo end")["id"]
    follow = connect(service, b"")
    path = f"/v1/commands/{follower}/output?follow=true"
    follow.sendall(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {service.token}\r\n\r\n".encode()
    )
    began = time.monotonic()
    talks = {
        connect(service, HEAD): b"X-More: 1\r\n",
        connect(service, HEAD + b"X-Endless: "): b"x",
        connect(service, HEAD + b"Content-Length: 100000\r\n\r\n{"): b" ",
        connect(
            service,
            HEAD + f"Authorization: Bearer {service.token}\r\n".encode()
            + b"Content-Type: text/plain\r\nContent-Length: 100000\r\n\r\n",
        ): b"#",
        connect(service, HEAD + b"Transfer-Encoding: chunked\r\n\r\n"): b"1\r\n \r\n",
        connect(service, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"): b"\r\n",
    }  # fmt: skip
    idle = [connect(service, b"") for _ in range(20)]
    trial.submit_all(every_kind())

    def all_are_gone() -> bool:
        keep_talking(talks)
        time.sleep(0.2)
        return all(map(is_closed, [*talks, *idle]))

    eventually(all_are_gone, "all of these connections to be closed")
    assert time.monotonic() - began > 2
    assert not is_closed(follow), "a follower has sent its whole request"
    gate.open()
    assert service.wait(follower)["status"] == "succeeded"
    trial.verify()
    follow.close()
    service.close_client()
    eventually(lambda: server.num_fds() <= rest + 2, "the connections to be gone")
    assert service.server_pid == server.pid
    assert keeper_of(service).is_running()
