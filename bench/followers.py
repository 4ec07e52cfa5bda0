"""Followers: how fast many of them get the whole output of one script while it prints.

The limit is one process that copies the output of the same script to as many loopback sockets. The
same program reads in both cases.
"""

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from bench import programs
from bench.measure import Benchmark, Plan, Results, Row, Target
from bench.output import MEGABYTE
from bench.service import SAME_UID, new_directory

LINE = "a line of output as scripts print it, of sixty-four bytes or so"


def _script(go: Path, size: int) -> str:
    """Return a script that prints once the file ``go`` exists."""
    return f"until [ -e '{go}' ]; do sleep 0.01; done; yes '{LINE}' | head -c {size}"


def _received(port: int, followers: int, size: int, go: Path, request: bytes) -> float:
    """Start the output once all follow; return megabytes a second until all have received it."""
    words = [programs.program("receive"), str(port), str(followers)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as readers:
        assert readers.stdin is not None
        assert readers.stdout is not None
        readers.stdin.write(request)
        readers.stdin.close()
        if readers.stdout.readline() != b"ready\n":
            sys.exit("cannot measure: the followers got no answer")
        began = time.monotonic()
        go.touch()
        total, ended = readers.stdout.read().split()
    expected = followers * size
    # Chunk lengths and response headers come on top: a little, and only from the service.
    if not expected <= int(total) <= expected * 1.02 + followers * 2000:
        sys.exit(f"cannot measure: {int(total)} bytes arrived, not {expected}")
    return expected / MEGABYTE / (float(ended) - began)


def raw_rate(size: int, followers: int) -> float:
    """Measure the limit."""
    with new_directory() as directory:
        go = directory / "go"
        words = f"({_script(go, size)}) | {programs.program('fan_out')} {followers}"
        with subprocess.Popen(["bash", "-c", words], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            return _received(port, followers, size, go, b"")


def service_rate(plan: Plan, size: int, followers: int) -> float:
    """Measure a new service."""
    with new_directory() as directory, plan.service(SAME_UID) as service:
        go = directory / "go"
        command = service.submit(_script(go, size))
        path = f"/v1/commands/{command['id']}/output?follow=true"
        request = service.request("GET", path).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        return _received(service.port, followers, size, go, request)


def measure(plan: Plan) -> Results:
    """Measure both in turn."""
    size, followers = plan.size(20 * MEGABYTE, MEGABYTE), plan.size(200, 10)
    return {
        "followers": plan.interleaved(
            "followers",
            partial(raw_rate, size, followers),
            partial(service_rate, plan, size, followers),
        )
    }


BENCHMARK = Benchmark(
    "followers",
    (
        Row(
            "followers",
            "200 followers of one 20 MB output while it is printed: bytes delivered",
            "MB/s",
            "one `cat` through 200 loopback sockets",
            Target(0.3),
        ),
    ),
    measure,
)
