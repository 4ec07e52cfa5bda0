"""Start rate: completed ``echo hello`` a second through HTTP, all stored and final.

The limit is a C loop of ``posix_spawn`` of ``bash -c 'echo hello'``, eight at once, which stores
nothing.
"""

import os
import time
from functools import partial

from bench import programs
from bench.measure import Benchmark, Measured, Plan, Row, Target
from bench.service import SAME_UID

CONNECTIONS = 16
AT_ONCE = 8
MODES = {
    "same uid": SAME_UID,
    "cgroup each": SAME_UID[:2],
    "another uid": ["--no-use-cgroups"],
    "another uid, cgroup each": [],
}
"""Who scripts run as, and the flags for that."""


def raw_rate(count: int) -> float:
    """Return completed a second of the limit."""
    return programs.run("spawn_limit", count, AT_ONCE)[0]


def service_rate(plan: Plan, count: int, flags: list[str], notes: dict[str, float]) -> float:
    """Return completed a second of a new service; note its CPU milliseconds a command."""
    with plan.service(flags) as service:
        request = service.request("POST", "/v1/commands", {"script": "echo hello"})
        before = service.cpu_seconds()
        began = time.monotonic()
        programs.run("load", service.port, CONNECTIONS, count, 0, 201, given=request)
        service.wait_until_final()
        rate = count / (time.monotonic() - began)
        for name, seconds in service.cpu_seconds().items():
            notes[f"{name}, CPU ms a command"] = (seconds - before[name]) / count * 1000
    return rate


def measure(plan: Plan) -> Measured:
    """Measure every mode that is possible here."""
    count = plan.size(3000, 20)
    found: Measured = {}
    for name, flags in MODES.items():
        if os.geteuid() != 0 and "another uid" in name:
            continue
        notes: dict[str, float] = {}
        found[name] = plan.interleaved(
            name, partial(raw_rate, count), partial(service_rate, plan, count, flags, notes)
        )
        found[name].notes.update(notes)
    return found


def _row(name: str, target: Target) -> Row:
    return Row(
        name,
        f"`echo hello` through `POST`, 16 connections, all stored and final; {name}",
        "commands/s",
        "C loop of `posix_spawn`, 8 at once",
        target,
    )


_HALF = Target(0.5, aim=0.65)
BENCHMARK = Benchmark(
    "start-rate",
    (_row("same uid", Target(0.7, aim=0.85)), *(_row(name, _HALF) for name in list(MODES)[1:])),
    measure,
)
