"""Why a server cannot work reaches its keeper before it ends, however much waits to be sent."""

import asyncio
import socket

from scriptservice.fleet.local import LocalKeeper
from scriptservice.protocol.frames import FrameBuffer, stop_frame

MESSAGE = "cannot use this database: it is not ours"


def nothing(*_: object) -> None:
    """Nobody is told."""


async def say_it(ours: socket.socket, waiting: asyncio.Event, go_on: asyncio.Event) -> None:
    link = LocalKeeper(
        "alpha", on_shutdown=nothing, on_finish=nothing, on_retire=nothing, on_gone=nothing
    )
    await link.connect(ours)
    for _ in range(2000):  # more than a socket holds
        link.stop("x" * 1000, "SIGTERM", 1)
    await asyncio.sleep(0)
    said = asyncio.create_task(link.fatal(MESSAGE))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not said.done(), "nobody has read yet"
    waiting.set()
    await go_on.wait()
    await said


async def both() -> bytes:
    ours, keeper = socket.socketpair()
    keeper.setblocking(False)
    waiting, go_on = asyncio.Event(), asyncio.Event()
    saying = asyncio.create_task(say_it(ours, waiting, go_on))
    await asyncio.wait(
        {saying, asyncio.ensure_future(waiting.wait())}, return_when="FIRST_COMPLETED"
    )
    go_on.set()
    received = b""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(keeper, 1 << 20):
        received += data
    await saying
    keeper.close()
    return received


def test_the_last_words_are_sent_before_it_ends() -> None:
    frames = list(FrameBuffer().feed(asyncio.run(both())))
    assert frames[:-1] == [stop_frame("x" * 1000, "SIGTERM", 1)] * 2000
    assert frames[-1] == {"type": "fatal", "message": MESSAGE}


async def to_nobody() -> None:
    ours, keeper = socket.socketpair()
    link = LocalKeeper(
        "alpha", on_shutdown=nothing, on_finish=nothing, on_retire=nothing, on_gone=nothing
    )
    await link.connect(ours)
    keeper.close()
    await link.fatal(MESSAGE)


def test_a_keeper_that_is_dead_keeps_nobody_waiting() -> None:
    asyncio.run(asyncio.wait_for(to_nobody(), 20))
