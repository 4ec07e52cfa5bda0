"""Scripts started and reaped per second by the keeper's spawner alone, and the machine's limit.

Shows the cost of a start without server, journal and HTTP: for each way of starting, as the same or
as another user, with or without a cgroup. Limit and mode are measured in turn, several times; the
ratio of a mode is the median over these pairs. Run it with ``python -m bench.spawning [--quick]``.
"""

import argparse
import os
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from bench.start_rate import CONCURRENT_SCRIPTS, raw_rate
from scriptservice.keeper.spawn.exec_failure import STARTED, read_outcome
from scriptservice.keeper.spawn.script_user import script_user
from scriptservice.keeper.spawn.spawned_process import SpawnedProcess
from scriptservice.keeper.spawn.spawner import Spawner
from scriptservice.keeper.system.identity import Identity
from scriptservice.keeper.tree.cgroup import CgroupTree
from scriptservice.protocol.frames import SpawnSpec
from scriptservice.protocol.prctl import become_subreaper

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class SpawnMode:
    """One way to start scripts, and its measurements.

    Attributes:
        run_as: user of the scripts; None for the default script user.
        cgroup: whether each script has a cgroup of its own.
        way: how the spawner starts a process: ``launcher`` or ``fork``.
        ratios: started per second, relative to the limit.
        rates: started per second.
        cpu_us: microseconds of the keeper's CPU time for each script.
    """

    run_as: str | None
    cgroup: bool
    way: str
    ratios: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


def spawn_modes() -> dict[str, SpawnMode]:
    """Return the modes that are possible for this user, by name."""
    own = str(os.geteuid())
    found: dict[str, SpawnMode] = {}
    for way in ("launcher", "fork"):
        found[f"same uid, {way}"] = SpawnMode(own, cgroup=False, way=way)
        if os.geteuid() == 0:
            found[f"same uid, cgroup each, {way}"] = SpawnMode(own, cgroup=True, way=way)
            found[f"another uid, {way}"] = SpawnMode(None, cgroup=False, way=way)
            found[f"another uid, cgroup each, {way}"] = SpawnMode(None, cgroup=True, way=way)
    return found


@dataclass(frozen=True)
class Script:
    spec: SpawnSpec
    spawned: SpawnedProcess


class Starter:
    """Starts scripts as the keeper does, reads their output and reaps them."""

    def __init__(self, spawner: Spawner, tree: CgroupTree | None) -> None:
        self._spawner = spawner
        self._tree = tree
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        self.running = 0
        self.done = 0

    def _watch(self, descriptor: int, ready: Callable[[], None]) -> None:
        self._ready[descriptor] = ready
        self._epoll.register(descriptor, select.EPOLLIN)

    def _unwatch(self, descriptor: int) -> None:
        del self._ready[descriptor]
        self._epoll.unregister(descriptor)

    def start(self) -> None:
        spec = SpawnSpec(
            id=str(uuid4()), script="echo hello", interpreter=["/bin/bash"], args=[], env={},
            stdin=None, working_directory=None, timeout_seconds=None, grace_seconds=1,
            leftover_seconds=1, output_limit_bytes=None, on_output_limit="discard",
        )  # fmt: skip
        cgroup = None if self._tree is None else self._tree.open_join_file(spec.id)
        with ExitStack() as cleanup:
            script = Script(spec, self._spawner.spawn(spec, cgroup, cleanup))
            cleanup.pop_all()
        if cgroup is not None:
            os.close(cgroup)
        self.running += 1
        self._watch(script.spawned.status, lambda: self._confirm(script))

    def _confirm(self, script: Script) -> None:
        status = script.spawned.status
        self._unwatch(status)
        outcome = read_outcome(status)
        os.close(status)
        if outcome != STARTED:
            sys.exit(f"cannot measure: a script did not start: {outcome}")
        self._watch_script(script)

    def _watch_script(self, script: Script) -> None:
        spawned = script.spawned
        for stream in filter(None, (spawned.stdout, spawned.stderr)):
            self._watch(stream, lambda stream=stream: self._read(stream))  # type: ignore[misc]
        self._watch(spawned.pidfd, lambda: self._reap(script))

    def _read(self, stream: int) -> None:
        if not os.read(stream, 4096):
            self._unwatch(stream)
            os.close(stream)

    def _reap(self, script: Script) -> None:
        _, status, _ = os.wait4(script.spawned.pid, 0)
        if status:
            sys.exit(f"cannot measure: a script ended with wait status {status}")
        self._unwatch(script.spawned.pidfd)
        os.close(script.spawned.pidfd)
        if self._tree is not None:
            self._tree.forget(_Root(script.spec.id))
        self.running -= 1
        self.done += 1

    def handle_events(self) -> None:
        """Wait for events and handle them."""
        for descriptor, _ in self._epoll.poll():
            if ready := self._ready.get(descriptor):
                ready()


@dataclass(frozen=True)
class _Root:
    id: str
    pid: int | None = None
    start_ticks: int = 0
    exited: bool = True


def rate(name: str, count: int, directory: str) -> tuple[float, float]:
    """Measure a mode in a new process, since a keeper too is a process without other work.

    Returns:
        Scripts started and reaped per second, and microseconds of CPU time for each.
    """
    command = [sys.executable, "-m", "bench.spawning", "--mode", name, str(count), directory]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    per_second, cpu_us = map(float, printed.split())
    return per_second, cpu_us


def measure(mode: SpawnMode, count: int, directory: str) -> None:
    """Measure a mode in this process, and print the two figures of `rate`."""
    os.umask(0o077)
    become_subreaper()
    user = script_user(mode.run_as, 59999)
    spawner = Spawner(directory, user, path=PATH, lang="C.UTF-8", use_launcher=mode.way != "fork")
    if spawner.method_name != mode.way:
        sys.exit(f"cannot measure {mode.way}: it is not built; run scripts/build-launcher")
    tree = None
    if mode.cgroup:
        identity = Identity.current()
        tree = CgroupTree.probe(f"scriptservice-bench-{identity.pid}-{identity.start_ticks}")
        if tree is None:
            sys.exit("cannot measure with cgroups: no cgroup2 is writable on this machine")
    starter = Starter(spawner, tree)
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    started = 0
    while starter.done < count:
        while starter.running < CONCURRENT_SCRIPTS and started < count:
            starter.start()
            started += 1
        starter.handle_events()
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    if tree is not None:
        tree.close()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(count / seconds, cpu / count * 1e6)


def main(*, quick: bool) -> dict[str, Any]:
    """Measure every mode that is possible here, print a table, and return the figures."""
    count, repetitions = (200, 1) if quick else (1000, 7)
    modes = spawn_modes()
    with tempfile.TemporaryDirectory(prefix="scriptservice-bench-") as directory:
        os.chmod(directory, 0o711)
        for _ in range(repetitions):
            for name, mode in modes.items():
                own = os.path.join(directory, name.replace(" ", "-").replace(",", ""))
                os.makedirs(own, mode=0o711, exist_ok=True)
                os.chmod(own, 0o711)
                raw = raw_rate(count)
                found, cpu_us = rate(name, count, own)
                mode.ratios.append(found / raw)
                mode.rates.append(found)
                mode.cpu_us.append(cpu_us)
    print(f"{'scripts run as':<36}{'started/s':>10}{'ratio':>7}{'range':>12}{'CPU us each':>13}")
    figures: dict[str, Any] = {}
    for name, mode in modes.items():
        figures[name] = {"ratios": mode.ratios, "rates": mode.rates, "cpu_us": mode.cpu_us}
        between = f"{min(mode.ratios):.2f}-{max(mode.ratios):.2f}"
        print(
            f"{name:<36}{statistics.median(mode.rates):>10.0f}{statistics.median(mode.ratios):>7.2f}"
            f"{between:>12}{statistics.median(mode.cpu_us):>13.0f}"
        )
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.spawning", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="measure each mode once, briefly")
    parser.add_argument("--mode", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.mode:
        name, count, directory = arguments.mode
        measure(spawn_modes()[name], int(count), directory)
    else:
        main(quick=arguments.quick)
