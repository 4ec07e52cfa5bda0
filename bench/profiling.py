"""CPU time per command by stage: ``scripts/bench --profile``.

py-spy samples the keeper and the server from outside while a load runs. It does not stop or change
them, so they are hardly slower. The kernel reports the CPU time of each of their threads. The CPU
time of a thread is divided among the stages according to the thread's samples.
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
SPY_START_SECONDS = 0.7


@dataclass(frozen=True)
class ThreadTimes:
    """The kernel's accounting of one thread.

    Attributes:
        cpu: seconds that the thread ran on a processor.
        queue: seconds that the thread was ready to run and waited for a processor.
        slept: how often the thread gave up the processor itself.
        preempted: how often the kernel took the processor away from the thread.
    """

    cpu: float = 0.0
    queue: float = 0.0
    slept: int = 0
    preempted: int = 0

    @classmethod
    def of(cls, task: Path) -> "ThreadTimes":
        cpu, queue, _ = (task / "schedstat").read_text().split()
        switches = [
            int(line.split()[1])
            for line in (task / "status").read_text().splitlines()
            if "ctxt_switches" in line
        ]
        return cls(int(cpu) / 1e9, int(queue) / 1e9, *switches)

    def since(self, other: "ThreadTimes") -> "ThreadTimes":
        return ThreadTimes(
            self.cpu - other.cpu,
            self.queue - other.queue,
            self.slept - other.slept,
            self.preempted - other.preempted,
        )

    @property
    def stretch(self) -> float:
        """The time that work appears to take in samples, divided by its CPU time; at least 1.

        A thread waits for a processor after it was preempted, and after it woke up. Only the first
        kind of wait makes work appear longer, because it can happen anywhere in the work. Both
        kinds are assumed to take equally long on average.
        """
        lost = self.preempted / max(1, self.preempted + self.slept)
        return 1 + lost * self.queue / max(self.cpu, 1e-9)


@dataclass(frozen=True)
class Profile:
    """CPU time per command.

    Attributes:
        rate: commands accepted a second while the profile was taken.
        stages: microseconds per command, by process and stage.
    """

    rate: float
    stages: dict[str, dict[str, float]]


def table(profiles: dict[str, Profile]) -> str:
    """Return a Markdown table of the profiles, one column for each name."""
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
    """Profile a service under the load of one script.

    Args:
        flags: flags of ``serve``.
        seconds: duration of the load.
        script: the script that each command runs.
    """
    spy = shutil.which("py-spy", path=os.path.dirname(sys.executable))
    if spy is None:
        sys.exit(
            "cannot profile: py-spy is not installed; run scripts/environment requirements-dev.lock"
        )
    with new_directory() as directory, MeasuredService(directory, flags) as service:
        request = service.request("POST", "/v1/commands", {"script": script})
        programs.run("load", service.port, CONNECTIONS, 500, 0, 201, stdin=request)
        service.wait_until_final()
        spies = [_spy(spy, pid, directory / name) for name, pid in service.pids().items()]
        time.sleep(SPY_START_SECONDS)  # py-spy reads the symbols of the interpreter first
        before = {name: _threads(pid) for name, pid in service.pids().items()}
        done, took = programs.run("load", service.port, CONNECTIONS, 0, seconds, 201, stdin=request)
        service.wait_until_final(poll_seconds=0.5)
        after = {name: _threads(pid) for name, pid in service.pids().items()}
        for sampler in spies:
            sampler.send_signal(signal.SIGINT)
            sampler.wait(60)
        stages = {}
        for name, threads in after.items():
            times = {
                thread: total.since(before[name].get(thread, ThreadTimes()))
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


def _threads(pid: int) -> dict[int, ThreadTimes]:
    """Return the times of each thread of a process so far, by thread id."""
    return {int(task.name): ThreadTimes.of(task) for task in Path(f"/proc/{pid}/task").iterdir()}


def _samples(path: Path) -> Iterator[tuple[int, str, list[str], int]]:
    """Yield each sampled stack of a py-spy file.

    Yields:
        The thread's id, the thread's name, the frames with the innermost last, and the number of
        samples that had this stack.
    """
    for line in path.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        thread, *frames = stack.split(";")
        numbered, _, name = thread.partition("): ")
        identifier = numbered.removeprefix("thread (")
        if identifier.isdecimal() and frames:
            yield int(identifier), name, frames, int(count)


def _attribute(process: str, path: Path, times: dict[int, ThreadTimes]) -> dict[str, float]:
    """Return the CPU seconds of a process by stage."""
    seen: dict[int, Counter[tuple[str, bool]]] = defaultdict(Counter)
    for thread, name, frames, count in _samples(path):
        sleeps = SLEEPS.search(frames[-1]) is not None
        seen[thread][stage_of(process, name, frames), sleeps] += count
    stages: dict[str, float] = defaultdict(float)
    for thread, counts in seen.items():
        spent = times.get(thread, ThreadTimes())
        for stage, share in _shares(counts, spent).items():
            stages[stage] += share * spent.cpu
    unsampled = sum(each.cpu for thread, each in times.items() if thread not in seen)
    if unsampled:
        stages["threads without samples"] = unsampled
    return dict(stages)


def _shares(counts: "Counter[tuple[str, bool]]", spent: ThreadTimes) -> dict[str, float]:
    """Return the share of each stage in a thread's CPU time.

    py-spy counts a thread that sleeps in certain functions as working (see `SLEEPS`), so there are
    too many samples of these functions. Together they get only the CPU time that the other samples
    do not account for.
    """
    awake = sum(count for (_, sleeps), count in counts.items() if not sleeps)
    asleep = sum(count for (_, sleeps), count in counts.items() if sleeps)
    kept = min(1.0, max(0.0, RATE * spent.cpu * spent.stretch - awake) / asleep) if asleep else 0.0
    weights: dict[str, float] = defaultdict(float)
    for (stage, sleeps), count in counts.items():
        weights[stage] += count * (kept if sleeps else 1.0)
    total = sum(weights.values())
    return {stage: weight / total for stage, weight in weights.items()} if total else {}
