"""CPU per command by stage: ``scripts/bench --profile``.

py-spy samples keeper and server from outside while a load runs, without stopping them, and the
kernel says what CPU each of their threads had. A sample counts as its thread's share of that. It
changes nothing of the program and costs it little.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import programs
from bench.service import MeasuredService, new_directory
from bench.stages import SLEEPS, stage_of

RATE = 200
CONNECTIONS = 16
HEAD_SECONDS = 0.7


@dataclass(frozen=True)
class Times:
    """What the kernel says of a thread.

    Attributes:
        cpu: seconds on a processor.
        queue: seconds in which it could have run and another did.
        slept: how often it gave the processor up.
        preempted: how often it lost it.
    """

    cpu: float = 0.0
    queue: float = 0.0
    slept: int = 0
    preempted: int = 0

    @classmethod
    def of(cls, task: Path) -> "Times":
        cpu, queue, _ = (task / "schedstat").read_text().split()
        switches = [
            int(line.split()[1])
            for line in (task / "status").read_text().splitlines()
            if "ctxt_switches" in line
        ]
        return cls(int(cpu) / 1e9, int(queue) / 1e9, *switches)

    def since(self, other: "Times") -> "Times":
        return Times(
            self.cpu - other.cpu,
            self.queue - other.queue,
            self.slept - other.slept,
            self.preempted - other.preempted,
        )

    @property
    def stretch(self) -> float:
        """How much longer than its CPU a piece of work looks as if it ran.

        Waiting for a processor is taken to be as likely after losing it, which may happen
        anywhere, as after waking, which happens where it slept.
        """
        lost = self.preempted / max(1, self.preempted + self.slept)
        return 1 + lost * self.queue / max(self.cpu, 1e-9)


@dataclass(frozen=True)
class Profile:
    """CPU per command.

    Attributes:
        rate: commands accepted a second while it was taken.
        stages: microseconds by process and stage.
    """

    rate: float
    stages: dict[str, dict[str, float]]


def table(profiles: dict[str, Profile]) -> str:
    """Return profiles side by side as Markdown, by what they are called."""
    names = list(profiles)
    rows = [f"| | stage | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for process in profiles[names[0]].stages:
        each = [profile.stages[process] for profile in profiles.values()]
        totals = " | ".join(f"**{sum(stages.values()):.0f}**" for stages in each)
        rows.append(f"| **{process}** | all | {totals} |")
        found = {stage for stages in each for stage in stages}
        for stage in sorted(found, key=lambda name: -each[0].get(name, 0.0)):
            costs = [stages.get(stage, 0.0) for stages in each]
            if max(costs) >= 0.5:
                rows.append(f"| | {stage} | {' | '.join(f'{cost:.0f}' for cost in costs)} |")
    return "\n".join(rows)


def take(flags: list[str], seconds: float, script: str = "echo hello") -> Profile:
    """Profile a service under the load of one script."""
    spy = shutil.which("py-spy", path=os.path.dirname(sys.executable))
    if spy is None:
        sys.exit("cannot profile: there is no py-spy: scripts/environment requirements-dev.lock")
    with new_directory() as directory, MeasuredService(directory, flags) as service:
        request = service.request("POST", "/v1/commands", {"script": script})
        programs.run("load", service.port, CONNECTIONS, 500, 0, 201, given=request)
        service.wait_until_final()
        spies = [_spy(spy, pid, directory / name) for name, pid in service.pids().items()]
        time.sleep(HEAD_SECONDS)  # they read the symbols of the interpreter
        before = {name: _threads(pid) for name, pid in service.pids().items()}
        done, took = programs.run("load", service.port, CONNECTIONS, 0, seconds, 201, given=request)
        service.wait_until_final(look_seconds=0.5)
        after = {name: _threads(pid) for name, pid in service.pids().items()}
        for sampler in spies:
            sampler.send_signal(signal.SIGINT)
            sampler.wait(60)
        stages = {}
        for name, threads in after.items():
            times = {
                thread: total.since(before[name].get(thread, Times()))
                for thread, total in threads.items()
            }
            spent = _attribute(name, directory / name, times)
            stages[name] = {stage: each / done * 1e6 for stage, each in spent.items()}
    return Profile(done / took, stages)


def _spy(spy: str, pid: int, path: Path) -> "subprocess.Popen[bytes]":
    command = [spy, "record", "--pid", str(pid), "--rate", str(RATE), "--format", "raw"]
    command += ["--threads", "--nonblocking"]
    return subprocess.Popen(
        [*command, "--output", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _threads(pid: int) -> dict[int, Times]:
    """Return the times of each thread of a process so far."""
    return {int(task.name): Times.of(task) for task in Path(f"/proc/{pid}/task").iterdir()}


def _samples(path: Path) -> Iterator[tuple[int, str, list[str], int]]:
    """Yield thread id, its name, its frames and how often it was seen so."""
    for line in path.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        thread, *frames = stack.split(";")
        numbered, _, name = thread.partition("): ")
        identifier = numbered.removeprefix("thread (")
        if identifier.isdecimal() and frames:
            yield int(identifier), name, frames, int(count)


def _attribute(process: str, path: Path, times: dict[int, Times]) -> dict[str, float]:
    """Return CPU seconds by stage."""
    seen: dict[int, Counter[tuple[str, bool]]] = defaultdict(Counter)
    for thread, name, frames, count in _samples(path):
        sleeps = SLEEPS.search(frames[-1]) is not None
        seen[thread][stage_of(process, name, frames), sleeps] += count
    stages: dict[str, float] = defaultdict(float)
    for thread, counts in seen.items():
        spent = times.get(thread, Times())
        for stage, share in _shares(counts, spent).items():
            stages[stage] += share * spent.cpu
    unseen = sum(each.cpu for thread, each in times.items() if thread not in seen)
    if unseen:
        stages["threads never seen at work"] = unseen
    return dict(stages)


def _shares(counts: "Counter[tuple[str, bool]]", spent: Times) -> dict[str, float]:
    """Return what part of a thread's CPU each stage had.

    Samples of those that sleep in the kernel are too many: what they get is the CPU that the
    samples of the others leave over.
    """
    awake = sum(count for (_, sleeps), count in counts.items() if not sleeps)
    asleep = sum(count for (_, sleeps), count in counts.items() if sleeps)
    kept = min(1.0, max(0.0, RATE * spent.cpu * spent.stretch - awake) / asleep) if asleep else 0.0
    weights: dict[str, float] = defaultdict(float)
    for (stage, sleeps), count in counts.items():
        weights[stage] += count * (kept if sleeps else 1.0)
    total = sum(weights.values())
    return {stage: weight / total for stage, weight in weights.items()} if total else {}
