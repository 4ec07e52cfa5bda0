"""A thousand followers of one command each receive every byte, and memory stays bounded."""

import asyncio
import base64
import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.service import MAINLY_ON_SQLITE, Service

FOLLOWERS = 1000
SCRIPT = """\
until [ -e "$1" ]; do sleep 0.05; done
head -c {bytes} /dev/zero | tr '\\0' x
"""


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def follow(service: Service, command: str, connected: asyncio.Semaphore) -> int:
    """Follow a command to its end; return how many bytes of output arrived, in order."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=1 << 20)
    request = (
        f"GET /v1/commands/{command}/events HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {service.token}\r\n\r\n"
    )
    writer.write(request.encode())
    position = 0
    event = b""
    connected.release()
    while line := await reader.readline():
        if line.startswith(b"event: "):
            event = line[7:].strip()
        elif line.startswith(b"data: ") and event == b"output":
            members = json.loads(line[6:])
            data = members["text"].encode() if "text" in members else None
            data = base64.b64decode(members["base64"]) if data is None else data
            assert members["position"] == position
            position += len(data)
        elif line.startswith(b"data: ") and event == b"end":
            break
    writer.close()
    return position


async def follow_all(service: Service, command: str, start: Path, count: int) -> list[int]:
    connected = asyncio.Semaphore(0)
    followers = [asyncio.create_task(follow(service, command, connected)) for _ in range(count)]
    for _ in followers:
        await connected.acquire()
    await asyncio.to_thread(start.touch)
    return await asyncio.gather(*followers)


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@MAINLY_ON_SQLITE
@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("size", [500_000, pytest.param(10_000_000, marks=pytest.mark.long)])
def test_a_thousand_followers_get_every_byte_in_bounded_memory(
    make_service: Callable[..., Service], size: int
) -> None:
    service = make_service().start()
    start = service.data_dir.parent / "start"
    script = SCRIPT.replace("{bytes}", str(size))
    command = service.submit(script, args=[str(start)])["id"]
    positions = asyncio.run(follow_all(service, command, start, FOLLOWERS))
    assert positions == [size] * FOLLOWERS
    assert peak_bytes(service.server_pid) < 250_000_000
