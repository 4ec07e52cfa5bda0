"""Following output while it is written, until it ends or is cut."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx2 as httpx
import pytest

from support.gates import Gate
from support.service import MAINLY_ON_SQLITE, PATIENCE_SECONDS, Service, eventually

LAST_CHUNK = b"0\r\n\r\n"


def stop(service: Service, command: dict[str, Any]) -> None:
    service.client.post(f"/v1/commands/{command['id']}/stop", json={"grace_seconds": 0})
    service.wait(command["id"])


@contextmanager
def follow(service: Service, command: dict[str, Any], **query: Any) -> Iterator[httpx.Response]:
    url = f"/v1/commands/{command['id']}/output"
    with (
        httpx.Client(
            base_url=service.url,
            headers=service.headers,
            timeout=PATIENCE_SECONDS,
            verify=False,
        ) as client,
        client.stream("GET", url, params={"follow": "true", **query}) as response,
    ):
        assert response.status_code == 200
        yield response


class Reader:
    """Reads a streamed answer piece by piece."""

    def __init__(self, response: httpx.Response) -> None:
        self._parts = response.iter_raw()
        self.data = b""

    def until(self, wanted: bytes) -> bytes:
        while not self.data.endswith(wanted):
            self.data += next(self._parts)
        return self.data

    def remaining(self) -> bytes:
        return self.data + b"".join(self._parts)


def test_bytes_arrive_while_the_command_runs(service: Service) -> None:
    gate = Gate(service)
    command = service.submit(f"echo one; {gate.wait}; echo two >&2; sleep 3600")
    with follow(service, command) as response:
        assert response.headers["output-offset"] == "0"
        assert response.headers["output-complete"] == "false"
        assert "content-length" not in response.headers
        reader = Reader(response)
        assert reader.until(b"one\n") == b"one\n"
        gate.open()
        assert reader.until(b"two\n") == b"one\ntwo\n"
        assert service.get(command["id"])["status"] == "running"
        stop(service, command)
        assert reader.remaining() == b"one\ntwo\n"


def test_every_byte_in_order_whatever_the_pace(service: Service) -> None:
    script = "for i in {1..3000}; do echo line $i; ((i % 500)) || sleep 0.02; done"
    wanted = b"".join(b"line %d\n" % number for number in range(1, 3001))
    command = service.submit(script)
    with follow(service, command) as response:
        assert b"".join(response.iter_raw()) == wanted
    assert service.wait(command["id"])["status"] == "succeeded"


def test_a_follow_ends_when_the_command_ends(service: Service) -> None:
    gate = Gate(service)
    command = service.submit(f"({gate.wait}) & echo now", leftover_seconds=3600)
    with follow(service, command) as response:
        reader = Reader(response)
        assert reader.until(b"now\n") == b"now\n"
        assert service.get(command["id"])["status"] == "running"
        gate.open()
        assert reader.remaining() == b"now\n"
    assert service.get(command["id"])["status"] == "succeeded"


def test_one_stream_from_an_offset(service: Service) -> None:
    gate = Gate(service)
    command = service.submit(f"echo 12345; echo err >&2; {gate.wait}; echo 67890")
    with follow(service, command, stream="stdout", offset=3) as response:
        assert response.headers["output-offset"] == "3"
        reader = Reader(response)
        assert reader.until(b"\n") == b"45\n"
        gate.open()
        assert reader.remaining() == b"45\n67890\n"


def test_a_follow_waits_for_an_offset_beyond_the_output(service: Service) -> None:
    gate = Gate(service)
    command = service.submit(f"echo 12345; {gate.wait}; echo 67890")
    with follow(service, command, offset=8) as response:
        gate.open()
        assert b"".join(response.iter_raw()) == b"890\n"


def test_an_offset_that_is_never_reached_ends_with_the_command(service: Service) -> None:
    gate = Gate(service)
    command = service.submit(f"echo short; {gate.wait}")
    with follow(service, command, offset=1000) as response:
        gate.open()
        assert b"".join(response.iter_raw()) == b""


@pytest.mark.parametrize(("tail", "first"), [("2l", b"b\nc\n"), ("3", b"\nc\n"), ("0", b"")])
def test_tail_sends_the_last_lines_first_and_then_follows(
    service: Service, tail: str, first: bytes
) -> None:
    gate = Gate(service)
    command = service.submit(f"printf 'a\\nb\\nc\\n'; {gate.wait}; echo d")
    service.wait_for_output(command["id"], b"c\n")
    with follow(service, command, tail=tail) as response:
        assert response.headers["output-offset"] == str(6 - len(first))
        reader = Reader(response)
        assert reader.until(first) == first
        gate.open()
        assert reader.remaining() == first + b"d\n"


@pytest.mark.parametrize("limit", [0, 1, 7])
def test_a_follow_with_a_limit_ends_after_that_many_bytes(service: Service, limit: int) -> None:
    command = service.submit("echo 12345; sleep 0.05; echo 67890; sleep 3600")
    with follow(service, command, limit=limit) as response:
        assert b"".join(response.iter_raw()) == b"12345\n67890\n"[:limit]
    assert service.get(command["id"])["status"] in ("queued", "running")
    stop(service, command)


def test_a_limit_that_is_not_reached_ends_with_the_command(service: Service) -> None:
    gate = Gate(service)
    command = service.submit(f"echo 123; {gate.wait}")
    with follow(service, command, offset=2, limit=1000) as response:
        gate.open()
        assert b"".join(response.iter_raw()) == b"3\n"


def test_a_finished_command_is_sent_whole(service: Service) -> None:
    command = service.run("seq 1000")
    with follow(service, command, offset=10) as response:
        assert response.headers["output-complete"] == "true"
        assert response.headers["content-length"] == str(command["output"]["bytes"] - 10)
        assert b"".join(response.iter_raw()) == service.bytes_of(command["id"])[10:]


def test_many_follow_the_same_command(service: Service) -> None:
    command = service.submit("for i in {1..200}; do echo $i; sleep 0.001; done")
    wanted = b"".join(b"%d\n" % number for number in range(1, 201))
    got: list[bytes] = []

    def read() -> None:
        with follow(service, command) as response:
            got.append(b"".join(response.iter_raw()))

    threads = [threading.Thread(target=read) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert got == [wanted] * 10


# Cut short: a client must be able to tell that the output is incomplete


@contextmanager
def raw_follow(
    service: Service, command: dict[str, Any], receive_bytes: int | None = None
) -> Iterator[Callable[[bytes], bytes]]:
    """Follow a command on a bare socket.

    Args:
        service: the service.
        command: the command to follow.
        receive_bytes: size of the socket's receive buffer; None for the kernel's default.

    Yields:
        A function that reads until it has received some bytes, or the end, and returns everything.
    """
    request = (
        f"GET /v1/commands/{command['id']}/output?follow=true HTTP/1.1\r\n"
        f"Host: localhost\r\nAuthorization: Bearer {service.token}\r\n\r\n"
    )
    with closing(socket.socket()) as connection:
        if receive_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(("127.0.0.1", service.port))
        connection.sendall(request.encode())
        got = bytearray()

        def read_until(wanted: bytes) -> bytes:
            while wanted not in got:
                part = connection.recv(65536)
                if not part:
                    break
                got.extend(part)
            return bytes(got)

        yield read_until


def test_the_last_chunk_marks_a_complete_output(service: Service) -> None:
    gate = Gate(service)
    command = service.submit(f"echo begun; {gate.wait}")
    with raw_follow(service, command) as read_until:
        read_until(b"begun\n")
        gate.open()
        assert read_until(LAST_CHUNK).endswith(LAST_CHUNK)


@MAINLY_ON_SQLITE
def test_a_shutdown_cuts_a_follow_or_lets_it_see_the_end(make_service: Any) -> None:
    """If the shutdown ends the command, a follow of it must be complete."""
    service = make_service().start()
    command = service.submit("echo begun; exec sleep 3600")
    service.wait_for_output(command["id"], b"begun")
    with raw_follow(service, command) as read_until:
        read_until(b"begun\n")
        assert service.stop() == 0
        assert read_until(LAST_CHUNK).endswith(LAST_CHUNK)


@MAINLY_ON_SQLITE
def test_a_shutdown_cuts_the_follow_of_a_queued_command(make_service: Any) -> None:
    service = make_service("--max-running", "1").start()
    first = service.submit("exec sleep 3600")
    service.wait_for(first["id"], "running")
    command = service.submit("echo later")
    with (
        raw_follow(service, command) as read_until,
        follow(service, command) as response,
    ):
        assert b"200 OK" in read_until(b"\r\n\r\n")
        assert service.stop() == 0
        got = read_until(LAST_CHUNK)
        # A client gets an error.
        with pytest.raises(httpx.RemoteProtocolError):
            response.read()
    assert b"transfer-encoding: chunked" in got.lower()
    assert LAST_CHUNK not in got


@MAINLY_ON_SQLITE
def test_a_deletion_cuts_a_slow_reader(service: Service) -> None:
    """The reader's window is full, so most of the output is unsent when the command is deleted."""
    command = service.run("head -c 20000000 /dev/zero")
    url = f"/v1/commands/{command['id']}"
    with follow(service, command) as response:
        reader = response.iter_raw()
        next(reader)
        assert service.client.delete(url).status_code == 204
        eventually(lambda: service.client.get(url).status_code == 404, "it to be gone")
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in reader:
                pass


@MAINLY_ON_SQLITE
def test_a_deletion_cuts_a_follow_without_the_last_chunk(service: Service) -> None:
    """The server waits for a slow client while the command ends and is deleted."""
    command = service.submit("head -c 20000000 /dev/zero")
    with raw_follow(service, command) as read_until:
        read_until(b"\r\n\r\n")
        service.wait(command["id"])
        url = f"/v1/commands/{command['id']}"
        assert service.client.delete(url).status_code == 204
        got = read_until(LAST_CHUNK)
    assert LAST_CHUNK not in got
    assert len(got) < 20_000_000
    assert json.loads(service.client.get("/healthz").text) == {"status": "ok"}


def test_a_deletion_cuts_a_slow_reader_of_cached_output(service: Service) -> None:
    """All output is in the server's cache, but none of it may be sent after the deletion."""
    size = 7_500_000
    gate = Gate(service)
    command = service.submit(f"{gate.wait}; head -c {size} /dev/zero")
    with raw_follow(service, command, receive_bytes=4096) as read_until:
        read_until(b"\r\n\r\n")
        with follow(service, command) as response:
            gate.open()
            assert len(b"".join(response.iter_raw())) == size
        service.wait(command["id"])
        assert service.client.delete(f"/v1/commands/{command['id']}").status_code == 204
        got = read_until(LAST_CHUNK)
    assert LAST_CHUNK not in got
    assert len(got) < size
