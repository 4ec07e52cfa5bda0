"""Clients that send too much: other clients are not delayed, and memory stays bounded."""

import contextlib
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import httpx2 as httpx
import pytest

from support.flood import KINDS, flood
from support.scripts import peak_bytes, resident_bytes
from support.service import ON_SQLITE, Service
from support.sse import EventStream, event_stream

MEBIBYTE = 1 << 20
MORE_BYTES = 64 * MEBIBYTE
TIMES = 2.0
ROUNDS = 12
REQUESTS = 25
"""Requests in a round; after each, a script prints one line."""

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def ready(own_service: Service) -> Service:
    """A service with some commands to list."""
    for _ in range(60):
        own_service.submit("true")
    own_service.run("true")
    return own_service


@pytest.fixture(scope="module")
def rest_bytes(ready: Service) -> int:
    """The resident memory of its server before any flood, after it has handled every request."""
    with live(ready) as (lines, stream):
        latencies(ready, lines, stream)
    return resident_bytes(ready.server_pid)


@contextlib.contextmanager
def live(service: Service) -> Iterator[tuple[IO[str], EventStream]]:
    """Run a script that prints the lines written to it; yield its input and its event stream."""
    fifo = service.data_dir.parent / "lines"
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo)
    fifo.chmod(0o644)
    command = service.submit('while read -r line; do echo "$line"; done < "$1"', args=[str(fifo)])
    # Opened for reading and writing: so this does not block, and the script sees no end of file
    # before we close it.
    with (
        os.fdopen(os.open(fifo, os.O_RDWR), "w", buffering=1) as lines,
        event_stream(service, command["id"]) as stream,
    ):
        service.wait_for(command["id"], "running")
        yield lines, stream
    service.wait(command["id"])


def latencies(service: Service, lines: IO[str], stream: EventStream) -> tuple[float, float]:
    """Return the median seconds of a list request, and from a line to its event."""
    pages, events = [], []
    for number in range(REQUESTS):
        began = time.perf_counter()
        assert service.client.get("/v1/commands").status_code == 200
        pages.append(time.perf_counter() - began)
        began = time.perf_counter()
        lines.write(f"{began} {number}\n")
        while f"{began} {number}\n" not in stream.until("output").data["text"]:
            pass
        events.append(time.perf_counter() - began)
    return statistics.median(pages), statistics.median(events)


@ON_SQLITE
@pytest.mark.parametrize("kind", KINDS)
def test_an_endless_sender_without_a_token_delays_nobody(
    ready: Service, rest_bytes: int, kind: str
) -> None:
    with live(ready) as (lines, stream):
        ratios = []
        # Complete requests are answered, so this kind may delay others.
        for _ in range(1 if kind == "requests ahead" else ROUNDS):
            quiet = latencies(ready, lines, stream)
            with flood(ready.port, [kind] * 4):
                crowded = latencies(ready, lines, stream)
            ratios.append([there / here for there, here in zip(crowded, quiet, strict=True)])
            if max(ratios[-1]) <= TIMES:
                break  # one good round is enough: other work of the machine may spoil a round
        more_bytes = peak_bytes(ready.server_pid) - rest_bytes
        best = min(ratios, key=max)
        print(f"{kind}: list {best[0]:.2f}, event {best[1]:.2f}, {more_bytes / MEBIBYTE:.1f} MiB")
        assert kind == "requests ahead" or max(best) <= TIMES, ratios
        assert more_bytes <= MORE_BYTES
    assert ready.run("true")["status"] == "succeeded"


# Large bodies


def largest_legal() -> bytes:
    """Return a submit with every field of the largest size, in the longest JSON spelling."""
    escaped = "\\u0001"
    env = ",".join(f'"A{number}": "{escaped * (120 << 10)}"' for number in range(8))
    text = f'"script": "exit 0 #{escaped * (MEBIBYTE - 8)}", "stdin": "{escaped * MEBIBYTE}"'
    return f'{{{text}, "env": {{{env}}}}}'.encode()


def post(service: Service, body: bytes) -> tuple[int, str]:
    """Submit a body; return the status and the problem type, or an empty text."""
    headers = service.headers | JSON
    response = httpx.post(
        f"{service.url}/v1/commands", content=body, headers=headers, timeout=60, verify=False
    )
    if response.status_code == 503:
        assert int(response.headers["retry-after"]) > 0
    return response.status_code, str(json.loads(response.content).get("type", ""))


@ON_SQLITE
@pytest.mark.parametrize("count", [pytest.param(6, marks=pytest.mark.long), 20])
@pytest.mark.parametrize("size", ["legal", "too large"])
def test_many_large_bodies_at_once_share_the_memory(
    make_service: Callable[..., Service], count: int, size: str
) -> None:
    service = make_service().start()
    body = largest_legal() if size == "legal" else b'{"script": "' + b"x" * 30_000_000 + b'"}'
    assert len(body) > 17 * MEBIBYTE
    # SQLite's page cache takes up to 8 MiB for each connection; let it grow first.
    for _ in range(2 if size == "legal" else 0):
        assert post(service, largest_legal())[0] == 201
    rest_bytes = resident_bytes(service.server_pid)
    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(post, [service] * count, [body] * count))
    more_bytes = peak_bytes(service.server_pid) - rest_bytes
    left_bytes = resident_bytes(service.server_pid) - rest_bytes
    print(f"{count} {size}: {more_bytes / MEBIBYTE:.1f} MiB, {left_bytes / MEBIBYTE:.1f} left")
    if size == "legal":
        assert (201, "") in answers
        assert set(answers) <= {(201, ""), (503, "/problems/store-unavailable")}
    else:
        assert set(answers) == {(413, "/problems/too-large")}
    assert more_bytes <= MORE_BYTES
    assert service.run("true")["status"] == "succeeded"
