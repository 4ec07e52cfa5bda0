"""What is written in one turn is sent as one, and nothing is held back for longer."""

import asyncio
from collections.abc import Callable

import pytest

from scriptservice.server.http.write_coalescing import AT_ONCE_BYTES, CoalescingTransport


class Sent(asyncio.Transport):
    """A transport that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.said.append(bytes(data))

    def close(self) -> None:
        self.said.append("close")

    def abort(self) -> None:
        self.said.append("abort")

    def get_write_buffer_size(self) -> int:
        return 7

    def is_closing(self) -> bool:
        return "close" in self.said


class Turn:
    """A transport in the midst of a turn of the loop, which `ends` when it is told."""

    def __init__(self) -> None:
        self.sent = Sent()
        self.later: list[Callable[[], None]] = []
        self.transport = CoalescingTransport(self.sent, self.later.append)

    def ends(self) -> list[bytes | str]:
        later, self.later[:] = list(self.later), []
        for each in later:
            each()
        return self.sent.said


@pytest.fixture
def turn() -> Turn:
    return Turn()


def test_a_head_and_its_body_are_one(turn: Turn) -> None:
    turn.transport.write(b"head ")
    turn.transport.write(b"body")
    assert turn.sent.said == []
    assert turn.transport.get_write_buffer_size() == 7 + len(b"head body")
    assert turn.ends() == [b"head body"]
    assert turn.transport.get_write_buffer_size() == 7
    turn.transport.write(b"next")
    assert turn.ends() == [b"head body", b"next"]


def test_one_that_is_much_does_not_wait(turn: Turn) -> None:
    """Nor what came before it; whoever goes on writing is to learn that nobody reads."""
    turn.transport.write(b"head ")
    turn.transport.write(b"x" * AT_ONCE_BYTES)
    assert turn.sent.said == [b"head " + b"x" * AT_ONCE_BYTES]
    turn.transport.write(b"y" * AT_ONCE_BYTES)
    assert len(turn.sent.said) == 2
    turn.transport.write(b"end")
    assert turn.ends()[2:] == [b"end"]


def test_it_hangs_up_behind_what_was_written(turn: Turn) -> None:
    turn.transport.write(b"all of it")
    assert not turn.transport.is_closing()
    turn.transport.close()
    assert turn.transport.is_closing()
    assert turn.ends() == [b"all of it", "close"]


def test_it_breaks_off_at_once(turn: Turn) -> None:
    turn.transport.write(b"part of it")
    turn.transport.abort()
    assert turn.ends() == ["abort"]
    turn.transport.write(b"more")
    turn.transport.lost()
    assert turn.ends() == ["abort"]
    assert turn.transport.get_write_buffer_size() == 7
