"""The server's ``fatal`` frame reaches the keeper before the server exits."""

import asyncio
import socket

from scriptservice.fleet.local import LocalKeeper
from scriptservice.protocol.frames import FrameBuffer, stop_frame

MESSAGE = "cannot use this database: it is not ours"


def nothing(*_: object) -> None:
    """Ignore a callback."""


async def send_fatal(ours: socket.socket, waiting: asyncio.Event, go_on: asyncio.Event) -> None:
    link = LocalKeeper(
        "alpha", on_shutdown=nothing, on_finish=nothing, on_retire=nothing, on_gone=nothing
    )
    await link.connect(ours)
    for _ in range(2000):  # More than a socket buffers.
        link.stop("x" * 1000, "SIGTERM", 1)
    await asyncio.sleep(0)
    sending = asyncio.create_task(link.send_fatal(MESSAGE))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not sending.done(), "the keeper has read nothing yet"
    waiting.set()
    await go_on.wait()
    await sending


async def send_and_receive() -> bytes:
    ours, keeper = socket.socketpair()
    keeper.setblocking(False)
    waiting, go_on = asyncio.Event(), asyncio.Event()
    sender = asyncio.create_task(send_fatal(ours, waiting, go_on))
    await asyncio.wait(
        {sender, asyncio.ensure_future(waiting.wait())}, return_when="FIRST_COMPLETED"
    )
    go_on.set()
    received = b""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(keeper, 1 << 20):
        received += data
    await sender
    keeper.close()
    return received


def test_it_is_sent_after_all_that_waits() -> None:
    frames = list(FrameBuffer().feed(asyncio.run(send_and_receive())))
    assert frames[:-1] == [stop_frame("x" * 1000, "SIGTERM", 1)] * 2000
    assert frames[-1] == {"type": "fatal", "message": MESSAGE}


async def send_to_dead_keeper() -> None:
    ours, keeper = socket.socketpair()
    link = LocalKeeper(
        "alpha", on_shutdown=nothing, on_finish=nothing, on_retire=nothing, on_gone=nothing
    )
    await link.connect(ours)
    keeper.close()
    await link.send_fatal(MESSAGE)


def test_a_dead_keeper_does_not_delay_the_server() -> None:
    asyncio.run(asyncio.wait_for(send_to_dead_keeper(), 20))
