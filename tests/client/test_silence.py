"""Connections that are open and silent: a client resumes by position, or ends in its own time."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scriptservice import AsyncClient, Client
from scriptservice.client.problems import ConnectionLostError
from support.service import Service, eventually, new_directory
from support.silence import NewConnections, SilentProxy, silent_proxy

SILENCE_SECONDS = 1.0
RETRY_SECONDS = 7.0
SLACK_SECONDS = 10.0
"""How much later than it should a client may end on a busy machine; it was a minute and more."""

LINES = 3000
FIRST = b"".join(b"line %d \xe2\x82\xac\n" % number for number in range(1, LINES + 1))
SECOND = b"".join(b"line %d \xe2\x82\xac\n" % number for number in range(LINES + 1, 2 * LINES + 1))


class Gated:
    """A command that prints a first half, waits at a gate, and prints the second one."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._gate: Path = new_directory() / "gate"
        script = (
            f"printf 'line %d €\\n' $(seq {LINES}); "
            f"until [ -e {self._gate} ]; do sleep 0.05; done; "
            f"printf 'line %d €\\n' $(seq {LINES + 1} {2 * LINES})"
        )
        self.id: str = service.submit(script)["id"]
        eventually(lambda: service.bytes_of(self.id) == FIRST, "the first half", 60)

    def open(self) -> None:
        self._gate.touch()

    def finish(self) -> None:
        self.open()
        assert self._service.wait(self.id, 60)["exit_code"] == 0


@pytest.fixture
def gated(service: Service) -> Iterator[Gated]:
    command = Gated(service)
    yield command
    command.finish()


@pytest.fixture
def proxy(service: Service) -> Iterator[SilentProxy]:
    with silent_proxy(service.port) as made:
        yield made


class Reader:
    """A client in a thread that reads a command's output through the proxy."""

    def __init__(
        self,
        how: str,
        proxy: SilentProxy,
        service: Service,
        command: str,
        **options: Any,
    ) -> None:
        self._url, self._token = proxy.url, service.token
        self._options = {"silence_seconds": SILENCE_SECONDS, **options}
        self._command = command
        self.data = b""
        self.error: Exception | None = None
        self.ended_at = 0.0
        self._thread = threading.Thread(target=self._read, args=(HOW[how],), daemon=True)
        self._thread.start()

    def _read(self, how: Callable[["Reader"], None]) -> None:
        try:
            how(self)
        except Exception as error:  # noqa: BLE001 - judged by the test
            self.error = error
        self.ended_at = time.monotonic()

    def end(self, seconds: float = 60) -> "Reader":
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"it hangs at {len(self.data)} bytes"
        return self

    def follow(self) -> None:
        with Client(self._url, self._token, **self._options) as client:
            for chunk in client.follow(self._command):
                self.data += chunk.data

    def follow_awaited(self) -> None:
        async def follow() -> None:
            async with AsyncClient(self._url, self._token, **self._options) as client:
                async for chunk in client.follow(self._command):
                    self.data += chunk.data

        asyncio.run(follow())

    def stream(self, stream: str) -> None:
        with Client(self._url, self._token, **self._options) as client:
            for data in client.stream_output(self._command, stream=stream, follow=True):
                self.data += data


HOW: dict[str, Callable[[Reader], None]] = {
    "follow": Reader.follow,
    "follow awaited": Reader.follow_awaited,
    "merged": lambda reader: reader.stream("merged"),
    "stdout": lambda reader: reader.stream("stdout"),
}
every_reader = pytest.mark.parametrize("how", HOW)


def test_it_goes_on_by_position(service: Service, proxy: SilentProxy, gated: Gated) -> None:
    readers = [Reader(how, proxy, service, gated.id) for how in HOW]
    for reader in readers:
        eventually(lambda reader=reader: reader.data == FIRST, "the first half", 60)
    proxy.fall_silent("work")
    gated.open()
    for reader in readers:
        reader.end()
        assert reader.error is None
        assert reader.data == FIRST + SECOND


@pytest.mark.parametrize("new", ["hang", "refuse"])
def test_it_ends_in_its_own_time(
    service: Service, proxy: SilentProxy, gated: Gated, new: NewConnections
) -> None:
    readers = [Reader(how, proxy, service, gated.id, retry_seconds=RETRY_SECONDS) for how in HOW]
    for reader in readers:
        eventually(lambda reader=reader: reader.data == FIRST, "the first half", 60)
    began = time.monotonic()
    proxy.fall_silent(new)
    for reader in readers:
        took = reader.end().ended_at - began
        assert isinstance(reader.error, ConnectionLostError)
        # It was last heard of before the proxy fell silent, by what a keep-alive or probe takes.
        assert RETRY_SECONDS - 2 * SILENCE_SECONDS < took < RETRY_SECONDS + SLACK_SECONDS
        assert reader.data == FIRST


@every_reader
def test_silence_before_the_headers(
    service: Service, proxy: SilentProxy, gated: Gated, how: str
) -> None:
    proxy.fall_silent("hang")
    reader = Reader(how, proxy, service, gated.id)
    eventually(lambda: proxy.accepted, "the first connection")
    proxy.new = "work"
    gated.open()
    assert reader.end().error is None
    assert reader.data == FIRST + SECOND


def test_a_quiet_command_is_no_silent_service(
    service: Service, proxy: SilentProxy, gated: Gated
) -> None:
    readers = [Reader(how, proxy, service, gated.id) for how in HOW]
    began = time.monotonic()
    # A look and a new stream for each time that it was silent.
    eventually(lambda: proxy.accepted >= 8 * len(HOW), "four silences", 120)
    took = time.monotonic() - began
    assert proxy.accepted <= len(HOW) * (1 + 2 * took / SILENCE_SECONDS)
    gated.open()
    for reader in readers:
        assert reader.end().error is None
        assert reader.data == FIRST + SECOND


def test_a_reader_that_takes_its_time_is_no_silent_service(
    service: Service, proxy: SilentProxy, gated: Gated
) -> None:
    with Client(
        proxy.url, service.token, silence_seconds=SILENCE_SECONDS, retry_seconds=0
    ) as client:
        chunks, pieces = iter(client.follow(gated.id)), client.stream_output(gated.id, follow=True)
        data = {"follow": next(chunks).data, "stream": next(pieces)}
        accepted = proxy.accepted
        until = time.monotonic() + 3 * SILENCE_SECONDS
        eventually(lambda: time.monotonic() > until, "the reader to have taken its time")
        assert proxy.accepted == accepted
        gated.open()
        data["follow"] += b"".join(chunk.data for chunk in chunks)
        data["stream"] += b"".join(pieces)
    assert data == {"follow": FIRST + SECOND, "stream": FIRST + SECOND}


def test_waiting_goes_on(service: Service, proxy: SilentProxy, gated: Gated) -> None:
    found: list[Any] = []
    connected = threading.Event()

    def wait() -> None:
        with Client(proxy.url, service.token, silence_seconds=SILENCE_SECONDS) as client:
            client.get(gated.id)
            connected.set()
            found.append(client.wait(gated.id))
            found.append(client.get(gated.id, wait_seconds=60))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert connected.wait(60)
    proxy.fall_silent("work")
    gated.open()
    thread.join(60)
    assert [each.exit_code for each in found] == [0, 0]


@pytest.mark.parametrize("new", ["hang", "refuse"])
def test_waiting_ends_in_its_own_time(
    service: Service, proxy: SilentProxy, gated: Gated, new: NewConnections
) -> None:
    with Client(
        proxy.url, service.token, silence_seconds=SILENCE_SECONDS, retry_seconds=RETRY_SECONDS
    ) as client:
        client.get(gated.id)
        proxy.fall_silent(new)
        began = time.monotonic()
        with pytest.raises(ConnectionLostError, match="cannot reach"):
            client.wait(gated.id)
    assert RETRY_SECONDS <= time.monotonic() - began < RETRY_SECONDS + SLACK_SECONDS


def test_an_idle_connection_that_is_dead_is_not_used_twice(
    service: Service, proxy: SilentProxy
) -> None:
    with Client(proxy.url, service.token, retry_seconds=RETRY_SECONDS) as client:
        client.hosts()
        proxy.fall_silent("work")
        assert client.run("echo x").stdout == b"x\n"
