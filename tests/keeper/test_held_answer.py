"""The server puts the parts of a large answer together: the ids that the keeper holds."""

import asyncio
import socket
from collections.abc import Callable, Iterable

import pytest

from scriptservice.fleet.local import LocalKeeper
from scriptservice.fleet.transport import HeldCommands
from scriptservice.protocol.frames import HELD_IDS, Frame, FrameBuffer, encode, held_frames


def nothing(*_: object) -> None:
    """Ignore a callback."""


async def ask(answer: Callable[[Frame], Iterable[Frame]]) -> HeldCommands:
    """Ask a keeper that sends these frames; return what the server understands."""
    ours, keeper = socket.socketpair()
    keeper.setblocking(False)
    link = LocalKeeper(
        "alpha", on_shutdown=nothing, on_finish=nothing, on_retire=nothing, on_gone=nothing
    )
    await link.connect(ours)
    asking = asyncio.create_task(link.held_commands())
    loop = asyncio.get_running_loop()
    (request,) = FrameBuffer().feed(await loop.sock_recv(keeper, 1 << 16))
    for frame in answer(request):
        await loop.sock_sendall(keeper, encode(frame))
    held = await asking
    keeper.close()
    await asyncio.sleep(0)
    return held


@pytest.mark.parametrize("count", [0, 1, HELD_IDS, HELD_IDS + 1, 30_000])
def test_all_parts_are_one_answer(count: int) -> None:
    ids = [str(number) for number in range(count)]
    held = asyncio.run(ask(lambda request: held_frames(request, 9, ids)))
    assert held == HeldCommands(frozenset(ids), 9)


def test_a_keeper_of_an_earlier_release_sends_one_frame() -> None:
    held = asyncio.run(ask(lambda _: held_frames({"type": "held"}, 9, ["a", "b"])))
    assert held == HeldCommands(frozenset({"a", "b"}), 9)


def test_parts_of_an_earlier_answer_are_ignored() -> None:
    def answer(request: Frame) -> Iterable[Frame]:
        earlier = {"type": "held", "number": request["number"] - 1}
        return [*held_frames(earlier, 8, ["old"]), *held_frames(request, 9, ["new"])]

    assert asyncio.run(ask(answer)) == HeldCommands(frozenset({"new"}), 9)
