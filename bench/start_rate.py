"""Start rate: ``echo hello`` commands a second, from the first POST until all are stored and final.

The limit is the rate of a C loop that runs ``bash -c 'echo hello'`` with ``posix_spawn``, eight at
a time, and stores nothing.
"""

import os
import time
from functools import partial

from bench import programs
from bench.measure import Benchmark, Plan, Results, Row, Target
from bench.service import SAME_UID

CONNECTIONS = 16
CONCURRENT_SCRIPTS = 8
MODES = {
    "same uid": SAME_UID,
    "cgroup each": SAME_UID[:2],
    "another uid": ["--no-use-cgroups"],
    "another uid, cgroup each": [],
}
"""Flags of ``serve`` for each mode: the user of the scripts, and whether each has a cgroup."""


def raw_rate(count: int) -> float:
    """Return how many scripts a second the C loop completes."""
    return programs.run("spawn_limit", count, CONCURRENT_SCRIPTS)[0]


def service_rate(plan: Plan, count: int, flags: list[str], notes: dict[str, float]) -> float:
    """Return how many commands a second a new service completes.

    Args:
        plan: plan of the run.
        count: number of commands.
        flags: flags of ``serve``.
        notes: this function adds the CPU time of keeper and of server, in milliseconds per command.
    """
    with plan.service(flags) as service:
        request = service.request("POST", "/v1/commands", {"script": "echo hello"})
        before = service.cpu_seconds()
        began = time.monotonic()
        programs.run("load", service.port, CONNECTIONS, count, 0, 201, stdin=request)
        service.wait_until_final()
        rate = count / (time.monotonic() - began)
        for name, seconds in service.cpu_seconds().items():
            notes[f"{name}, CPU ms a command"] = (seconds - before[name]) / count * 1000
    return rate


def measure(plan: Plan) -> Results:
    """Measure every mode that is possible here."""
    count = plan.size(3000, 20)
    found: Results = {}
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
# The launcher starts these scripts too, although they run as the same user. That costs a second
# exec. An earlier release started such scripts with a `clone` that shared the keeper's memory; its
# ratio was 0.72 (ADR 0023).
_SAME_USER = Target(0.66, aim=0.85)
BENCHMARK = Benchmark(
    "start-rate",
    (_row("same uid", _SAME_USER), *(_row(name, _HALF) for name in list(MODES)[1:])),
    measure,
)
