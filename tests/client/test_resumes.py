"""A client that is cut off at random gets every byte once, in every order that there is."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from scriptservice import Client
from scriptservice.client.problems import ConnectionLostError
from support.service import PATIENCE_SECONDS, Service

WRITER = r"""
import hashlib, os, random
dice = random.Random(7)
text = ("zeile é € 😀 " * 4000).encode()
noise = dice.randbytes(70_000)
hashes = {1: hashlib.sha256(), 2: hashlib.sha256()}
left = TOTAL
while left:
    source = dice.choice((text, noise))
    size = min(left, dice.randrange(1, 60_000))
    start = dice.randrange(len(source) - size) if size < len(source) else 0
    part, fd = source[start:start + size], dice.choice((1, 2))
    while part:
        written = os.write(fd, part)
        hashes[fd].update(part[:written])
        left -= written
        part = part[written:]
with open(RESULT, "w") as file:
    file.write(hashes[1].hexdigest() + " " + hashes[2].hexdigest())
"""
SHORT = (20_000_000, 40, 1)
FULL = (200_000_000, 200, 3)
"""Bytes, drops and kills."""


@pytest.mark.parametrize(
    ("total", "drop_count", "kill_count"),
    [SHORT, pytest.param(*FULL, marks=pytest.mark.long)],
)
def test_drops_and_kills_lose_and_repeat_nothing(
    make_service: Any, total: int, drop_count: int, kill_count: int
) -> None:
    # The interpreter of the tests may be where only their user can reach it.
    service = make_service("--run-as", str(os.geteuid())).start()
    writer = WRITER.replace("TOTAL", str(total)).replace("RESULT", "'written'")
    command = service.submit(writer, interpreter=[sys.executable])["id"]
    dice = random.Random(11)
    drops = sorted(dice.randrange(total) for _ in range(drop_count))
    kills = [total * (number + 1) // (kill_count + 1) for number in range(kill_count)]
    merged, streams = hashlib.sha256(), {"stdout": hashlib.sha256(), "stderr": hashlib.sha256()}
    position, connections = 0, 0
    with Client(service.url, service.token, retry_seconds=PATIENCE_SECONDS) as client:
        ended = False
        while not ended:
            connections += 1
            following = client.follow(command, after=position)
            for chunk in following:
                assert chunk.position == position
                merged.update(chunk.data)
                streams[chunk.stream].update(chunk.data)
                position = chunk.end
                if kills and position >= kills[0]:
                    kills.pop(0)
                    os.kill(service.server_pid, signal.SIGKILL)
                if drops and position >= drops[0]:
                    drops.pop(0)
                    break
            else:
                ended = True
        # Some drops fall into one chunk: as many are made as there were to be.
        final = client.get(command)
        assert (position, final.output["bytes"], final.exit_code) == (total, total, 0)
        stored = hashlib.sha256()
        for part in client.stream_output(command):
            stored.update(part)
        assert merged.digest() == stored.digest()
    assert connections == drop_count + 1
    shown = service.run("cat written")
    assert service.bytes_of(shown["id"]).decode().split() == [
        streams["stdout"].hexdigest(),
        streams["stderr"].hexdigest(),
    ]


def test_a_service_that_is_away_for_a_while(make_service: Any) -> None:
    service = make_service().start()
    command = service.submit("seq 20; exec sleep 3600")["id"]
    got: list[bytes] = []

    def follow() -> None:
        with Client(service.url, token, retry_seconds=PATIENCE_SECONDS) as client:
            got.extend(chunk.data for chunk in client.follow(command))

    token = service.token
    thread = threading.Thread(target=follow)
    thread.start()
    service.wait_for_output(command, b"20\n")
    service.close_client()
    assert service.stop() == 0
    time.sleep(1)  # it is away for a while; how many tries that takes does not matter
    service.start()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert b"".join(got) == service.bytes_of(command)
    assert service.get(command)["status"] == "stopped"


def test_a_service_that_is_gone_for_ever(make_service: Any) -> None:
    service = make_service().start()
    command = service.submit("echo up; sleep 3600")["id"]
    with Client(service.url, service.token, retry_seconds=1) as client:
        following = iter(client.follow(command))
        assert next(following).data == b"up\n"
        service.kill_keeper()
        with pytest.raises(ConnectionLostError, match="cannot reach"):
            list(following)


FORBIDDEN = {
    "sqlalchemy", "fastapi", "pydantic", "pydantic_settings", "uvicorn", "alembic", "structlog",
    "typer", "click", "rich", "uvloop", "starlette", "uuid_utils",
}  # fmt: skip


def test_the_client_needs_httpx_only(service: Service) -> None:
    program = f"""
import sys
FORBIDDEN = {FORBIDDEN!r}
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FORBIDDEN:
            raise ImportError("the client must not import " + name)
sys.meta_path.insert(0, Refusing())
from scriptservice import Client
with Client({service.url!r}, {service.token!r}) as client:
    assert client.run("echo x").stdout == b"x\\n"
ours = [name for name in sys.modules if name.startswith("scriptservice.")]
for part in ("server", "store", "keeper", "fleet", "cli", "settings"):
    assert not any(name.split(".")[1] == part for name in ours), ours
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
