"""Writes of one turn of the loop are sent together, and none is held back longer."""

import asyncio
from collections.abc import Callable

import pytest

from scriptservice.server.http.write_coalescing import FLUSH_BYTES, CoalescingTransport


class RecordingTransport(asyncio.Transport):
    """A transport that records its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.calls.append(bytes(data))

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def get_write_buffer_size(self) -> int:
        return 7

    def is_closing(self) -> bool:
        return "close" in self.calls


class Turn:
    """A coalescing transport during a turn of the loop."""

    def __init__(self) -> None:
        self.sent = RecordingTransport()
        self._callbacks: list[Callable[[], None]] = []
        self.transport = CoalescingTransport(self.sent, self._callbacks.append)

    def end(self) -> list[bytes | str]:
        """End the turn; return the calls of the wrapped transport so far."""
        callbacks, self._callbacks[:] = list(self._callbacks), []
        for each in callbacks:
            each()
        return self.sent.calls


@pytest.fixture
def turn() -> Turn:
    return Turn()


def test_a_head_and_its_body_are_sent_together(turn: Turn) -> None:
    turn.transport.write(b"head ")
    turn.transport.write(b"body")
    assert turn.sent.calls == []
    assert turn.transport.get_write_buffer_size() == 7 + len(b"head body")
    assert turn.end() == [b"head body"]
    assert turn.transport.get_write_buffer_size() == 7
    turn.transport.write(b"next")
    assert turn.end() == [b"head body", b"next"]


def test_a_large_write_is_sent_at_once(turn: Turn) -> None:
    """With what was held before it, so that the writer learns that the client does not read."""
    turn.transport.write(b"head ")
    turn.transport.write(b"x" * FLUSH_BYTES)
    assert turn.sent.calls == [b"head " + b"x" * FLUSH_BYTES]
    turn.transport.write(b"y" * FLUSH_BYTES)
    assert len(turn.sent.calls) == 2
    turn.transport.write(b"end")
    assert turn.end()[2:] == [b"end"]


def test_close_sends_held_writes_first(turn: Turn) -> None:
    turn.transport.write(b"all of it")
    assert not turn.transport.is_closing()
    turn.transport.close()
    assert turn.transport.is_closing()
    assert turn.end() == [b"all of it", "close"]


def test_abort_drops_held_writes(turn: Turn) -> None:
    turn.transport.write(b"part of it")
    turn.transport.abort()
    assert turn.end() == ["abort"]
    turn.transport.write(b"more")
    turn.transport.discard()
    assert turn.end() == ["abort"]
    assert turn.transport.get_write_buffer_size() == 7
