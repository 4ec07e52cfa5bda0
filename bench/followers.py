"""Followers: how fast many clients receive the output of one script while the script prints.

The limit is one process that copies the output of the same script to the same number of loopback
sockets. The same program receives the bytes in both cases.
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
    """Let the script print once all followers are connected; return how fast the output arrives.

    Args:
        port: port of the service or of the limit's process.
        followers: number of connections.
        size: bytes that the script prints.
        go: the file for which the script waits.
        request: the HTTP request of each follower; empty for the limit.

    Returns:
        Megabytes a second, summed over all followers, until the last one has received everything.
    """
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
    # The service also sends response headers and the lengths of chunks. The limit does not.
    if not expected <= int(total) <= expected * 1.02 + followers * 2000:
        sys.exit(f"cannot measure: {int(total)} bytes arrived, not {expected}")
    return expected / MEGABYTE / (float(ended) - began)


def raw_rate(size: int, followers: int) -> float:
    """Return the megabytes a second that one process delivers to all loopback sockets."""
    with new_directory() as directory:
        go = directory / "go"
        words = f"({_script(go, size)}) | {programs.program('fan_out')} {followers}"
        with subprocess.Popen(["bash", "-c", words], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            return _received(port, followers, size, go, b"")


def service_rate(plan: Plan, size: int, followers: int) -> float:
    """Return the megabytes a second that a new service delivers to all followers."""
    with new_directory() as directory, plan.service(SAME_UID) as service:
        go = directory / "go"
        command = service.submit(_script(go, size))
        path = f"/v1/commands/{command['id']}/output?follow=true"
        request = service.request("GET", path).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        return _received(service.port, followers, size, go, request)


def measure(plan: Plan) -> Results:
    """Measure the limit and the service in turn."""
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
