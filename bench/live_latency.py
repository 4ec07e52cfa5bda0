"""Live latency: the time from a script's write until a follower has received the line.

The script writes 100 lines a second, and each line is the time of its write. Script and follower
read the same clock of the same machine. The limit is the latency of the same script when a process
reads its output from a pipe.
"""

import http.client
import json
import statistics
import subprocess
import sys
import time

from bench.measure import Benchmark, Criterion, Direction, Plan, Results, Row, Series, Target
from bench.service import SAME_UID, MeasuredService

LINES_A_SECOND = 100
WRITER = """\
import sys, time
for _ in range({lines}):
    print(time.time_ns(), flush=True)
    time.sleep({pause})
"""


def _percentiles(seconds: list[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile in milliseconds."""
    ordered = sorted(value * 1000 for value in seconds)
    return statistics.median(ordered), ordered[int(len(ordered) * 0.99)]


def _writer(lines: int) -> str:
    return WRITER.format(lines=lines, pause=1 / LINES_A_SECOND)


def through_a_pipe(lines: int) -> tuple[float, float]:
    """Return the latency percentiles of a bare pipe, in milliseconds."""
    words = [sys.executable, "-c", _writer(lines)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        return _percentiles([(time.time_ns() - int(line)) / 1e9 for line in process.stdout])


def through_the_service(service: MeasuredService, lines: int) -> tuple[float, float]:
    """Return the latency percentiles of a follower of the event stream, in milliseconds."""
    command = service.submit(_writer(lines), interpreter=[sys.executable])
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    headers = {"Authorization": f"Bearer {service.token}"}
    connection.request("GET", f"/v1/commands/{command['id']}/events", headers=headers)
    response = connection.getresponse()
    found = []
    event = ""
    while line := response.readline():
        now = time.time_ns()
        if line.startswith(b"event: "):
            event = line[7:].strip().decode()
        elif line.startswith(b"data: ") and event == "output":
            text = json.loads(line[6:])["text"]
            found += [(now - int(stamp)) / 1e9 for stamp in text.split()]
        elif line.startswith(b"data: ") and event == "end":
            break
    connection.close()
    if len(found) != lines:
        sys.exit(f"cannot measure: {len(found)} of {lines} lines arrived")
    return _percentiles(found)


def measure(plan: Plan) -> Results:
    """Measure the pipe and the service in turn."""
    lines = plan.size(1000, 20)
    found = {"p50": Series(), "p99": Series()}
    with plan.service(SAME_UID) as service:
        for repetition in range(1, plan.repetitions + 1):
            plan.progress.show(f"{repetition} of {plan.repetitions}")
            for name, bare in zip(found, through_a_pipe(lines), strict=True):
                found[name].limits.append(bare)
            for name, live in zip(found, through_the_service(service, lines), strict=True):
                found[name].figures.append(live)
    return found


def _row(name: str, bound: float) -> Row:
    return Row(
        name,
        f"script's write to follower's receipt, 1,000 lines at 100/s, {name}",
        "ms",
        "a bare pipe",
        Target(bound, Direction.AT_MOST),
        Criterion.FIGURE,
    )


BENCHMARK = Benchmark("live-latency", (_row("p50", 15), _row("p99", 60)), measure)
