"""What a connection may send before it is authenticated, and how more than that is refused."""

import contextlib
import json
import re
import socket
from collections.abc import Callable, Iterator

import httpx2 as httpx
import pytest

from scriptservice.server.http.request_limits import HEAD_BYTES, HEAD_FIELDS, LINGER_BYTES
from support.service import MAINLY_ON_SQLITE, Service, eventually

START = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/commands HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
pytestmark = MAINLY_ON_SQLITE  # the limits apply before any use of the database
OK = b'{"status":"ok"}'


def wait_until_ready(service: Service) -> None:
    """Wait until it is ready; it answers earlier if its database takes long."""
    url = f"{service.url}/readyz"
    eventually(
        lambda: httpx.get(url, timeout=20, verify=False).status_code == 200, "it to work", 60
    )


@pytest.fixture(autouse=True)
def _ready(service: Service) -> None:
    wait_until_ready(service)


@contextlib.contextmanager
def connected(service: Service) -> Iterator[socket.socket]:
    with contextlib.closing(socket.create_connection(("127.0.0.1", service.port), 20)) as client:
        yield client


def received(client: socket.socket) -> bytes:
    """Return everything until the service closes the connection."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def refusal(service: Service, *pieces: bytes) -> tuple[int, dict[str, str], dict[str, object]]:
    """Send pieces; return status, headers and JSON of the problem that ends the connection."""
    with connected(service) as client:
        for piece in pieces:
            client.sendall(piece)
        answer = received(client)
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert headers["content-type"] == "application/problem+json"
    assert int(headers["content-length"]) == len(body), answer
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    return int(status.split()[1]), headers, json.loads(body)


def fields(count: int) -> bytes:
    return b"".join(b"X-Field-%d: x\r\n" % number for number in range(count))


# Headers


@pytest.mark.parametrize(
    "sent",
    [
        START + b"X-Endless: " + b"x" * (HEAD_BYTES + 4096),
        START + b"X" * (HEAD_BYTES + 4096),
        START + b"X-Many: " + b"\r\nX-More: ".join([b"x" * 2000] * 40) + b"\r\n\r\n",
        START + fields(HEAD_FIELDS) + b"\r\n",
        b"\r\n" * (HEAD_BYTES // 2 + 2048),
        b"GET /" + b"x" * (HEAD_BYTES + 4096),
        START + b"X-Spaces:" + b" " * (HEAD_BYTES + 4096),
    ],
    ids=["value", "name", "sum", "fields", "empty lines", "target", "spaces"],
)  # fmt: skip
def test_headers_that_are_too_large_are_refused(service: Service, sent: bytes) -> None:
    status, _, problem = refusal(service, sent)
    assert (status, problem["type"]) == (431, "/problems/headers-too-large")
    assert problem["status"] == 431
    assert str(HEAD_BYTES) in str(problem["detail"])


def test_headers_of_the_largest_size_are_accepted(service: Service) -> None:
    with connected(service) as client:
        client.sendall(START + fields(HEAD_FIELDS - 1) + b"\r\n")
        assert client.recv(1 << 16).endswith(OK)
        rest = HEAD_BYTES - len(START) - len(b"X-Long: \r\n\r\n")
        client.sendall(START + b"X-Long: " + b"x" * rest + b"\r\n\r\n")
        assert client.recv(1 << 16).endswith(OK)
        # The bytes of one request do not count for the next.
        client.sendall(START + b"X-Long: " + b"x" * rest + b"\r\n\r\n")
        assert client.recv(1 << 16).endswith(OK)


def test_headers_byte_by_byte_are_accepted(service: Service) -> None:
    with connected(service) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in START + fields(20) + b"\r\n":
            client.sendall(bytes([byte]))
        assert client.recv(1 << 16).endswith(OK)


def test_a_client_that_continues_to_send_headers_can_read_the_refusal(service: Service) -> None:
    with connected(service) as client:
        client.sendall(START + b"X-Endless: " + b"x" * (HEAD_BYTES + LINGER_BYTES // 2))
        assert received(client).startswith(b"HTTP/1.1 431 ")


def test_bytes_that_are_not_http_get_a_bad_request(service: Service) -> None:
    status, _, problem = refusal(service, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert (status, problem["type"]) == (400, "/problems/bad-request")


# Chunks


@pytest.mark.parametrize(
    "trailer",
    [
        b"X-Trailer: x\r\n\r\n",
        b"X-Trailer: " + b"x" * 100_000,
        b"x" * 100_000,
        fields(1000) + b"\r\n",
    ],
    ids=["whole", "long value", "long name", "many"],
)
@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("at_once", [True, False])
def test_trailers_are_refused(service: Service, trailer: bytes, token: bool, at_once: bool) -> None:
    name = b"Authorization: Bearer " + service.token.encode() + b"\r\n"
    head = POST + (name if token else b"") + b"Content-Type: text/plain\r\n"
    before = [head + b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\ntrue\r\n0\r\n"]
    with connected(service) as client:
        if at_once:
            client.sendall(b"".join(before) + trailer)
        else:
            for each in (*before, trailer[:4], trailer[4:]):
                client.sendall(each)
        answer = received(client)
    # Without a token the answer may come before the trailer; the connection is closed in any case.
    statuses = [b"HTTP/1.1 400 "] if token else [b"HTTP/1.1 400 ", b"HTTP/1.1 401 "]
    assert answer[: len(statuses[0])] in statuses
    assert answer.count(b"HTTP/1.1 ") == 1
    assert service.client.get("/v1/commands", params={"q": "X-Trailer"}).json()["items"] == []


@pytest.mark.parametrize(
    "framing",
    [b"4;" + b"x" * 100_000, b"0" * 100_000, b"4;a=" + b"b;c=" * 30_000],
    ids=["extension", "size", "extensions"],
)
def test_chunk_sizes_and_extensions_that_never_end_are_refused(
    service: Service, framing: bytes
) -> None:
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer " + service.token.encode()
                           + b"\r\nContent-Type: text/plain\r\n\r\n")  # fmt: skip
    status, _, problem = refusal(service, head + framing)
    assert (status, problem["type"]) == (400, "/problems/bad-request")


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("step", [1, 3, 50_000])
def test_chunks_of_any_size_in_any_pieces_are_accepted(
    service: Service, size: int, step: int
) -> None:
    text = b"echo " + b"abcdefg" * (6 if step < 100 else 40_000)
    chunks = [text[start : start + size] for start in range(0, len(text), size)]
    body = b"".join(b"%x;note=1\r\n%s\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"
    head = POST + b"Authorization: Bearer " + service.token.encode() + b"\r\n"
    head += b"Connection: close\r\n"
    sent = head + b"Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    with connected(service) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(sent), step):
            client.sendall(sent[start : start + step])
        answer = received(client)
    assert answer.startswith(b"HTTP/1.1 201 "), answer[:300]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["script"] == text.decode()


# Pipelined requests


@pytest.mark.parametrize("many", [1000, pytest.param(5000, marks=pytest.mark.long)])
def test_pipelined_requests_are_answered_in_order(service: Service, many: int) -> None:
    paths = [b"/healthz", b"/v1/nothing"]
    request = b"".join(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % each for each in paths)
    last = START + b"Connection: close\r\n\r\n"
    with connected(service) as client:
        client.sendall(request * (many // 2) + last)
        answer = received(client)
    statuses = re.findall(rb"HTTP/1.1 ([0-9]+)", answer)
    assert statuses == [b"200", b"401"] * (many // 2) + [b"200"]


def test_a_refusal_is_not_taken_for_the_answer_of_the_request_before(service: Service) -> None:
    with connected(service) as client:
        client.sendall(START + b"\r\n" + START + b"X: " + b"x" * (2 * HEAD_BYTES))
        answer = received(client)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert re.findall(rb"HTTP/1.1 ([0-9]+)", answer) in ([b"200"], [b"200", b"431"])


# Many connections


@pytest.fixture
def small(make_service: Callable[..., Service]) -> Service:
    """A service that accepts ten connections."""
    started = make_service("--max-connections", "10").start()
    wait_until_ready(started)
    return started


def test_the_oldest_unauthenticated_connection_is_closed_for_a_new_one(small: Service) -> None:
    small.submit("true")  # its connection is authenticated from now on
    with contextlib.ExitStack() as opened:
        idle = [opened.enter_context(connected(small)) for _ in range(30)]
        assert received(idle[0]) == b""
        assert httpx.get(f"{small.url}/healthz", timeout=20, verify=False).status_code == 200
        idle[-1].sendall(START + b"Connection: close\r\n\r\n")
        assert received(idle[-1]).endswith(OK)
        # The authenticated connection is older than all of them, and still open.
        assert small.client.get("/v1/commands").status_code == 200


def test_connections_in_use_are_not_closed_for_new_ones(small: Service) -> None:
    gate = small.data_dir.parent / "gate"
    script = 'echo begun; until [ -e "$1" ]; do sleep 0.05; done; echo end'
    command = small.submit(script, args=[str(gate)])["id"]
    small.close_client()
    request = (
        f"GET /v1/commands/{command}/output?follow=true HTTP/1.1\r\nHost: localhost\r\n"
        f"Connection: close\r\nAuthorization: Bearer {small.token}\r\n\r\n"
    ).encode()
    with contextlib.ExitStack() as opened:
        followers = [opened.enter_context(connected(small)) for _ in range(10)]
        for each in followers:
            each.sendall(request)
            assert b" 200 " in each.recv(1 << 16)
        waiting = opened.enter_context(connected(small))
        eventually(lambda: "connections_full" in small.output(), "no more to be accepted")
        waiting.sendall(START + b"Connection: close\r\n\r\n")
        gate.touch()
        for each in followers:
            assert b"end\n" in received(each)
        assert received(waiting).endswith(OK)
