"""Live latency: from a script's write to a follower's receipt, 100 lines a second.

Both read the same clock of the same machine. Beside it, in the same run, the machine's own
figure: the same script through a bare pipe to a reader in Python.
"""

import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.completed import MODES, MeasuredService

LINES_A_SECOND = 100
WRITER = """\
import sys, time
for _ in range({lines}):
    sys.stdout.write(f"{{time.time_ns()}}\\\\n")
    sys.stdout.flush()
    time.sleep({pause})
"""


@dataclass(frozen=True)
class Latency:
    """Milliseconds from write to receipt."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Latency":
        ordered = sorted(value * 1000 for value in seconds)
        return cls(statistics.median(ordered), ordered[int(len(ordered) * 0.99)])


def _writer(lines: int) -> str:
    return WRITER.format(lines=lines, pause=1 / LINES_A_SECOND).replace("\\\\n", "\\n")


def through_a_pipe(lines: int) -> Latency:
    """Measure a bare pipe."""
    found = []
    with subprocess.Popen(
        [sys.executable, "-c", _writer(lines)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        found += ((time.time_ns() - int(line)) / 1e9 for line in process.stdout)
    return Latency.of(found)


def through_the_service(service: MeasuredService, lines: int) -> Latency:
    """Measure a follower of the event stream."""
    headers = {"Authorization": f"Bearer {service.token}"}
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    body = json.dumps({"script": _writer(lines), "interpreter": ["/usr/bin/env", "python3"]})
    connection.request(
        "POST", "/v1/commands", body, {**headers, "Content-Type": "application/json"}
    )
    command = json.load(connection.getresponse())
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
    return Latency.of(found)


def measure(lines: int) -> tuple[Latency, Latency]:
    """Measure pipe and service, one after the other."""
    with tempfile.TemporaryDirectory(prefix="scriptservice-bench-") as directory:
        Path(directory).chmod(0o755)
        service = MeasuredService(directory, next(iter(MODES.values())))
        try:
            pipe = through_a_pipe(lines)
            return pipe, through_the_service(service, lines)
        finally:
            service.close()


def main(*, quick: bool) -> dict[str, float]:
    """Print the figures; return them."""
    pipe, live = measure(100 if quick else 1000)
    print(f"\n{'live latency, ms':<28}{'p50':>8}{'p99':>8}")
    print(f"{'a bare pipe':<28}{pipe.p50:>8.2f}{pipe.p99:>8.2f}")
    print(f"{'a follower of the service':<28}{live.p50:>8.2f}{live.p99:>8.2f}")
    return {
        "pipe_p50_ms": pipe.p50,
        "pipe_p99_ms": pipe.p99,
        "live_p50_ms": live.p50,
        "live_p99_ms": live.p99,
    }
