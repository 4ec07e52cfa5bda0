"""Completed commands per second through HTTP, beside what the machine can do at best.

The raw limit is a C loop of ``posix_spawn`` of ``bash -c 'echo hello'``, eight at once. The
service runs the same over HTTP: 16 connections submit, and the clock stops when every command is
stored and final. Both run in turn, several times, on the same machine; the ratio is of medians.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

CONNECTIONS = 16
AT_ONCE = 8
START_SECONDS = 30
END_SECONDS = 300

MODES = {
    "same uid": ["--run-as", str(os.geteuid()), "--no-use-cgroups"],
    "same uid, cgroup each": ["--run-as", str(os.geteuid())],
    "another uid": ["--no-use-cgroups"],
    "another uid, cgroup each": [],
}


@dataclass(frozen=True)
class Rates:
    """Completed per second, one of each run."""

    raw: list[float]
    service: list[float]

    @property
    def ratio(self) -> float:
        return statistics.median(self.service) / statistics.median(self.raw)


def build_raw_limit(directory: str) -> str:
    """Compile the raw limit; return the program's path."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        sys.exit("cannot measure the raw limit: a C compiler (cc) is needed")
    program = os.path.join(directory, "spawn_limit")
    source = Path(__file__).with_name("spawn_limit.c")
    subprocess.run([compiler, "-O2", "-o", program, str(source)], check=True)
    return program


def raw_rate(program: str, count: int) -> float:
    """Return completed per second of the raw limit."""
    run = subprocess.run(
        [program, str(count), str(AT_ONCE)], check=True, capture_output=True, text=True
    )
    return float(run.stdout)


class MeasuredService:
    """A service of its own for one run, on loopback and a new directory."""

    def __init__(self, directory: str, flags: list[str]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._data = os.path.join(directory, "data")
        command = [
            sys.executable, "-m", "scriptservice.cli", "serve", "--port", str(self.port),
            "--data-dir", self._data, *flags,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.get("/healthz", authorized=False)
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)
            else:
                break
        self.token = Path(self._data, "token").read_text().strip()

    def get(self, path: str, *, authorized: bool = True) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if authorized:
            request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU seconds so far of keeper and server, without their children."""
        tick = os.sysconf("SC_CLK_TCK")
        seconds = {}
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        pids = {"keeper": self.process.pid}
        for pid in map(int, children.read_text().split()):
            if b"scriptservice.server" in Path(f"/proc/{pid}/cmdline").read_bytes():
                pids["server"] = pid
        for name, pid in pids.items():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            seconds[name] = (int(fields[11]) + int(fields[12])) / tick
        return seconds

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


async def _submit(port: int, request: bytes, counts: list[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while counts[0] > 0:
        counts[0] -= 1
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 201"):
            sys.exit(f"cannot submit: {head.decode()}")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()


async def _load(service: MeasuredService, count: int) -> None:
    body = json.dumps({"script": "echo hello"}).encode()
    request = (
        f"POST /v1/commands HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {service.token}"
        f"\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    counts = [count]
    await asyncio.gather(*(_submit(service.port, request, counts) for _ in range(CONNECTIONS)))


def service_rate(count: int, flags: list[str], report: dict[str, float]) -> float:
    """Return completed per second of the service; add CPU milliseconds a command to a report."""
    with tempfile.TemporaryDirectory(prefix="scriptservice-bench-") as directory:
        os.chmod(directory, 0o755)
        service = MeasuredService(directory, flags)
        try:
            before = service.cpu_seconds()
            began = time.monotonic()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_load(service, count))
            open_ones = "/v1/commands?status=queued&status=running&status=stopping&limit=1"
            while service.get(open_ones)["items"]:
                if time.monotonic() - began > END_SECONDS:
                    sys.exit("cannot finish: commands do not end")
                time.sleep(0.02)
            rate = count / (time.monotonic() - began)
            after = service.cpu_seconds()
            for name, seconds in after.items():
                report[name] = (seconds - before[name]) / count * 1000
            if service.get("/v1/commands?status=failed&status=lost&limit=1")["items"]:
                sys.exit("cannot count: a command failed")
        finally:
            service.close()
    return rate


def measure(count: int, runs: int, flags: list[str], report: dict[str, float]) -> Rates:
    """Run raw limit and service in turn."""
    rates = Rates([], [])
    with tempfile.TemporaryDirectory(prefix="scriptservice-bench-") as directory:
        program = build_raw_limit(directory)
        for _ in range(runs):
            rates.raw.append(raw_rate(program, count))
            rates.service.append(service_rate(count, flags, report))
    return rates


def main(*, quick: bool) -> dict[str, Any]:
    """Measure every mode that is possible here, print a table, return the figures."""
    count, runs = (200, 1) if quick else (2000, 3)
    modes = MODES if os.geteuid() == 0 else {"same uid": []}
    print(f"{'scripts run as':<28}{'raw/s':>8}{'service/s':>11}{'ratio':>7}   CPU ms a command")
    figures: dict[str, Any] = {}
    for name, flags in modes.items():
        report: dict[str, float] = {}
        rates = measure(count, runs, flags, report)
        figures[name] = {"raw": rates.raw, "service": rates.service, "ratio": rates.ratio}
        cpu = ", ".join(f"{part} {value:.2f}" for part, value in report.items())
        raw, service = statistics.median(rates.raw), statistics.median(rates.service)
        print(f"{name:<28}{raw:>8.0f}{service:>11.0f}{rates.ratio:>7.2f}   {cpu}", flush=True)
    return figures
