"""One WebSocket connection: bounded buffers, pings that find dead clients, and every way to end."""

import asyncio
import time
from typing import Any

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from scriptservice.server.http.websocket_handshake import CloseCode
from scriptservice.server.websocket.websocket_connection import (
    CLOSE_SECONDS,
    MESSAGE_BYTES,
    PING_SECONDS,
    PONG_SECONDS,
    WebSocketConnection,
    WebSocketGoneError,
)


class Wire(asyncio.Transport):
    """A transport that ends at a WebSocket client."""

    def __init__(self) -> None:
        super().__init__()
        self.client = Connection(ConnectionType.CLIENT)
        self.received: list[Event] = []
        self.is_reading = True
        self.unsent_bytes = 0
        self.ended = ""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.client.receive_data(bytes(data))
        self.received += self.client.events()

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def pause_reading(self) -> None:
        assert self.is_reading
        self.is_reading = False

    def resume_reading(self) -> None:
        assert not self.is_reading
        self.is_reading = True

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"


class Pair:
    """A connection and its client."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.lost: list[Any] = []
        self.connection = WebSocketConnection(self.wire, self.lost.append)

    def send(self, *events: Event) -> None:
        self.connection.data_received(b"".join(map(self.wire.client.send, events)))

    def take(self) -> list[Event]:
        received, self.wire.received = self.wire.received, []
        return received

    def receive(self, count: int) -> list[str | bytes | None]:
        return asyncio.run(self._receive(count))

    async def _receive(self, count: int) -> list[str | bytes | None]:
        return [await self.connection.receive() for _ in range(count)]

    def tick(self, seconds: float) -> None:
        self.connection.check_deadline(time.monotonic() + seconds)


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_messages_in_both_directions(pair: Pair) -> None:
    pair.send(TextMessage("grüße"), BytesMessage(b"\xff\0"), BytesMessage(b""))
    assert pair.receive(3) == ["grüße", b"\xff\0", b""]
    asyncio.run(pair.connection.send("text"))
    asyncio.run(pair.connection.send(b"data"))
    assert [each.data for each in pair.take() if hasattr(each, "data")] == ["text", b"data"]


def test_a_message_in_parts_is_one_message(pair: Pair) -> None:
    parts = [TextMessage("a", message_finished=False), TextMessage("b", message_finished=False)]
    pair.send(*parts, Ping(b"between"), TextMessage("c"))
    assert pair.receive(1) == ["abc"]
    assert pair.take() == [Pong(b"between")]


def test_it_reads_on_only_when_the_message_was_taken(pair: Pair) -> None:
    pair.send(*[BytesMessage(b"%d" % number) for number in range(3)])
    assert not pair.wire.is_reading
    assert pair.receive(3) == [b"0", b"1", b"2"]
    assert pair.wire.is_reading


def test_of_a_flood_only_a_bounded_part_is_parsed(pair: Pair) -> None:
    count = 50_000
    pair.send(*[BytesMessage(b"x")] * count)
    assert len(pair.connection._messages) <= 16 << 10
    assert pair.receive(count) == [b"x"] * count


def test_a_message_that_is_too_large_ends_the_connection(pair: Pair) -> None:
    pair.send(BytesMessage(b"x" * MESSAGE_BYTES))
    assert pair.receive(1) == [b"x" * MESSAGE_BYTES]
    for _ in range(2):
        pair.send(BytesMessage(b"x" * MESSAGE_BYTES, message_finished=False))
    (close,) = pair.take()
    assert isinstance(close, CloseConnection)
    assert close.code == CloseCode.TOO_LARGE
    assert pair.receive(1) == [None]
    assert not pair.connection._incomplete


@pytest.mark.parametrize(
    "data", [b"\x83\x80\0\0\0\0", b"\x81\x83\0\0\0\0\xff\xff\xff", b"\x81\x01a"]
)
def test_what_is_no_frame_ends_the_connection(pair: Pair, data: bytes) -> None:
    pair.connection.data_received(data)
    assert pair.wire.ended == "closed"
    assert pair.receive(1) == [None]


def test_the_clients_close_is_answered(pair: Pair) -> None:
    pair.send(BytesMessage(b"last"), CloseConnection(1000))
    assert pair.receive(2) == [b"last", None]
    (close,) = pair.take()
    assert close == CloseConnection(1000, "")
    assert pair.wire.ended == "closed"
    with pytest.raises(WebSocketGoneError):
        asyncio.run(pair.connection.send("more"))


def test_the_services_close_waits_for_the_clients(pair: Pair) -> None:
    late = pair.wire.client.send(BytesMessage(b"late"))
    pair.connection.close(CloseCode.NORMAL, "done")
    (close,) = pair.take()
    assert close == CloseConnection(1000, "done")
    pair.tick(CLOSE_SECONDS / 2)
    assert not pair.wire.ended
    pair.connection.data_received(late + pair.wire.client.send(close.response()))
    assert pair.wire.ended == "closed"
    assert pair.receive(1) == [None]


def test_a_client_that_does_not_answer_the_close_is_cut(pair: Pair) -> None:
    late = pair.wire.client.send(BytesMessage(b"late"))
    pair.connection.close(CloseCode.RESTART)
    pair.connection.data_received(late)
    pair.tick(CLOSE_SECONDS + 1)
    assert pair.wire.ended == "aborted"


def test_pings_find_a_dead_client(pair: Pair) -> None:
    pair.tick(PING_SECONDS / 2)
    assert pair.take() == []
    pair.tick(PING_SECONDS + 1)
    assert pair.take() == [Ping(b"")]
    pair.tick(PING_SECONDS + PONG_SECONDS)
    assert not pair.wire.ended
    pair.tick(PING_SECONDS + PONG_SECONDS + 2)
    assert pair.wire.ended == "aborted"


@pytest.mark.parametrize("answer", [Pong(b""), TextMessage("{}")])
def test_whatever_a_client_sends_shows_that_it_lives(pair: Pair, answer: Event) -> None:
    pair.tick(PING_SECONDS + 1)
    pair.send(answer)
    pair.tick(PING_SECONDS + PONG_SECONDS + 2)
    assert not pair.wire.ended


def test_a_client_that_cannot_answer_is_not_dead(pair: Pair) -> None:
    pair.wire.unsent_bytes = 1  # it does not read, so the ping has not reached it
    pair.tick(PING_SECONDS + 1)
    pair.tick(2 * PING_SECONDS + PONG_SECONDS + 2)
    assert not pair.wire.ended
    pair.wire.unsent_bytes = 0
    pair.send(BytesMessage(b"waits"))  # and now the service does not read
    pair.tick(4 * PING_SECONDS)
    pair.tick(6 * PING_SECONDS)
    assert not pair.wire.ended


def test_a_client_that_does_not_read_makes_the_sender_wait(pair: Pair) -> None:
    async def send() -> bool:
        pair.connection.pause_writing()
        sending = asyncio.create_task(pair.connection.send(b"x"))
        await asyncio.sleep(0)
        waited = not sending.done() and pair.take() == []
        pair.connection.resume_writing()
        await sending
        return waited

    assert asyncio.run(send())
    assert pair.take() == [BytesMessage(b"x")]


def test_its_pings_are_not_answered_meanwhile(pair: Pair) -> None:
    pair.connection.pause_writing()
    pair.send(*[Ping(b"x")] * 100)
    assert pair.take() == []


def test_a_lost_connection_wakes_everybody(pair: Pair) -> None:
    async def lose() -> None:
        pair.connection.pause_writing()
        receiving = asyncio.create_task(pair.connection.receive())
        sending = asyncio.create_task(pair.connection.send(b"x"))
        await asyncio.sleep(0)
        pair.connection.connection_lost(None)
        assert await receiving is None
        with pytest.raises(WebSocketGoneError):
            await sending
        await pair.connection.lost.wait()

    asyncio.run(lose())
    assert pair.lost == [pair.connection]
