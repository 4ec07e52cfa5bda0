"""Memory: how much keeper and server grow for each running command that does nothing.

Any load leaves some memory allocated. So a load of commands that end at once runs first, and only
the growth after that load counts. The limit is the private memory of one running script.
"""

import re
import time
from functools import partial
from pathlib import Path

from bench import programs
from bench.measure import Benchmark, Criterion, Direction, Plan, Results, Row, Series, Target
from bench.service import SAME_UID, MeasuredService, eventually, new_directory

SCRIPT = "exec sleep 100000"
CONNECTIONS = 16


def _all_run(service: MeasuredService) -> bool:
    return not service.get("/v1/commands?status=queued&limit=1")["items"]


def _private_kib(service: MeasuredService) -> float:
    """Return the private memory of one of the running scripts, in KiB."""
    server = service.pids()["server"]
    path = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
    pid = next(each for each in path.read_text().split() if int(each) != server)
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(r"^Private_\w+: +(\d+)", rollup, re.MULTILINE))


def measure(plan: Plan) -> Results:
    """Measure a new service for each repetition."""
    running = plan.size(5000, 60)
    found = {"per command": Series(), "keeper": Series()}
    for repetition in range(1, plan.repetitions + 1):
        plan.progress.show(f"{running} running, {repetition} of {plan.repetitions}")
        with new_directory() as directory, MeasuredService(directory, SAME_UID) as service:
            warm = service.request("POST", "/v1/commands", {"script": "true"})
            programs.run("load", service.port, CONNECTIONS, running, 0, 201, stdin=warm)
            service.wait_until_final(poll_seconds=0.2)
            time.sleep(1)
            before = service.resident_bytes()
            sleeping = service.request("POST", "/v1/commands", {"script": SCRIPT})
            programs.run("load", service.port, CONNECTIONS, running, 0, 201, stdin=sleeping)
            eventually(partial(_all_run, service), "all to run", poll_seconds=0.5)
            time.sleep(1)
            after = service.resident_bytes()
            found["per command"].limits.append(_private_kib(service))
            for name in after:
                key = f"{name}, KiB a command"
                found["per command"].notes[key] = (after[name] - before[name]) / running / 1024
        growth = sum(after.values()) - sum(before.values())
        found["per command"].figures.append(growth / running / 1024)
        found["keeper"].figures.append(after["keeper"] / 1e6)
        found["keeper"].notes["server, MB resident"] = after["server"] / 1e6
    return found


BENCHMARK = Benchmark(
    "memory",
    (
        Row(
            "per command",
            "growth of keeper and server, resident, per sleeping command, 5,000 running",
            "KiB",
            "what its script holds alone",
            Target(8, Direction.AT_MOST),
            Criterion.FIGURE,
        ),
        Row(
            "keeper",
            "the keeper, resident, 5,000 running",
            "MB",
            None,
            Target(60, Direction.AT_MOST),
            Criterion.FIGURE,
        ),
    ),
    measure,
)
