"""Submit rate: durable 201 answers a second while no command starts.

No command starts because ``max_running`` is reached. The limit is the rate of an empty route of the
same framework under the same load.
"""

import http.client
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench import programs
from bench.measure import Benchmark, Plan, Results, Row, Target
from bench.service import SAME_UID, eventually

CONNECTIONS = 16
SCRIPT = {"script": "echo hello"}


@contextmanager
def empty_route() -> Iterator[int]:
    """Run `bench.empty_route` as a process; yield its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])

    def answers() -> bool:
        with suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("POST", "/", b"{}")
            return connection.getresponse().status == 201
        return False

    command = [sys.executable, "-m", "bench.empty_route", str(port)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1]) as process:
        try:
            eventually(answers, "the empty route", 30)
            yield port
        finally:
            process.terminate()


def _rate(port: int, request: bytes, count: int) -> float:
    done, seconds = programs.run("load", port, CONNECTIONS, count, 0, 201, stdin=request)
    return done / seconds


def measure(plan: Plan) -> Results:
    """Measure a new service in each repetition, so that the queue is always empty at first."""
    count = plan.size(10_000, 100)

    def figure() -> float:
        flags = [*SAME_UID, "--max-running", "1"]
        with plan.service(flags) as service:
            service.submit("exec sleep 1000")
            request = service.request("POST", "/v1/commands", SCRIPT)
            return _rate(service.port, request, count)

    with plan.service(SAME_UID) as service:
        # The empty route gets the same headers as the service.
        request = service.request("POST", "/v1/commands", SCRIPT)
    request = request.replace(b"POST /v1/commands ", b"POST / ")
    with empty_route() as port:
        _rate(port, request, 200)
        return {"submit": plan.interleaved("submit", lambda: _rate(port, request, count), figure)}


BENCHMARK = Benchmark(
    "submit-rate",
    (
        Row(
            "submit",
            "durable 201s with nothing started (`max_running` reached), 16 connections",
            "requests/s",
            "an empty route of the same framework",
            Target(0.4),
        ),
    ),
    measure,
)
