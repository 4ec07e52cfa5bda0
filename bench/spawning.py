"""Scripts started and reaped per second by the keeper's spawner alone, beside the raw limit.

Without server, journal and HTTP: what a start costs by each way, with another uid and a cgroup or
without. Raw limit and each row run in turn, several times; each row's ratio is the
median of its own pairs. ``python -m bench.spawning``, or with ``--quick``.
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
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from bench.start_rate import AT_ONCE, raw_rate
from scriptservice.keeper.spawn.script_user import script_user
from scriptservice.keeper.spawn.spawned_process import SpawnedProcess
from scriptservice.keeper.spawn.spawner import Spawner
from scriptservice.keeper.system.identity import Identity
from scriptservice.keeper.tree.cgroup import CgroupTree
from scriptservice.protocol.frames import SpawnSpec
from scriptservice.protocol.prctl import become_subreaper

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Row:
    """One way to start scripts, and what was measured."""

    run_as: str | None
    cgroup: bool
    way: str
    ratios: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


def rows() -> dict[str, Row]:
    own = str(os.geteuid())
    found: dict[str, Row] = {}
    for same, other in (("clone", "launcher"), ("fork", "fork")):
        found[f"same uid, {same}"] = Row(own, cgroup=False, way=same)
        if os.geteuid() == 0:
            found[f"same uid, cgroup each, {same}"] = Row(own, cgroup=True, way=same)
            found[f"another uid, {other}"] = Row(None, cgroup=False, way=other)
            found[f"another uid, cgroup each, {other}"] = Row(None, cgroup=True, way=other)
    return found


@dataclass(frozen=True)
class Script:
    spec: SpawnSpec
    spawned: SpawnedProcess


class Starter:
    """Starts scripts as the keeper does, so many at once, and reads and reaps them."""

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
        script = Script(spec, self._spawner.spawn(spec, cgroup))
        if cgroup is not None:
            os.close(cgroup)
        self.running += 1
        status = script.spawned.status
        if status is None:
            self._begun(script)
        else:
            self._watch(status, lambda: self._confirm(script, status))

    def _confirm(self, script: Script, status: int) -> None:
        self._unwatch(status)
        self._spawner.confirm(script.spawned, script.spec)
        self._begun(script)

    def _begun(self, script: Script) -> None:
        spawned = script.spawned
        for stream in (spawned.stdout, spawned.stderr):
            self._watch(stream, lambda stream=stream: self._read(stream))  # type: ignore[misc]
        self._watch(spawned.pidfd, lambda: self._reap(script))

    def _read(self, stream: int) -> None:
        if not os.read(stream, 4096):
            self._unwatch(stream)
            os.close(stream)

    def _reap(self, script: Script) -> None:
        _, status, _ = os.wait4(script.spawned.pid, 0)
        if status:
            sys.exit(f"cannot count: a script ended with {status}")
        self._unwatch(script.spawned.pidfd)
        os.close(script.spawned.pidfd)
        if self._tree is not None:
            self._tree.forget(_Root(script.spec.id, script.spawned.pid, exited=True))
        self.running -= 1
        self.done += 1

    def turn(self) -> None:
        for descriptor, _ in self._epoll.poll():
            if ready := self._ready.get(descriptor):
                ready()


@dataclass(frozen=True)
class _Root:
    id: str
    pid: int
    exited: bool


def rate(name: str, count: int, directory: str) -> tuple[float, float]:
    """Return started and reaped per second, and the microseconds of the keeper's CPU for each.

    In a process of its own, as fresh as a keeper is.
    """
    words = [sys.executable, "-m", "bench.spawning", "--row", name, str(count), directory]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    per_second, cpu_us = map(float, said.split())
    return per_second, cpu_us


def measure(row: Row, count: int, directory: str) -> None:
    """Measure a row in this process, and print the two figures."""
    os.umask(0o077)
    become_subreaper()
    user = script_user(row.run_as, 59999)
    spawner = Spawner(directory, user, path=PATH, lang="C.UTF-8", use_launcher=row.way != "fork")
    if spawner.method_name != row.way:
        sys.exit(f"cannot measure {row.way}: it is not there (scripts/build-launcher)")
    tree = None
    if row.cgroup:
        mine = Identity.current()
        tree = CgroupTree.probe(f"scriptservice-bench-{mine.pid}-{mine.start_ticks}")
        if tree is None:
            sys.exit("cannot measure with cgroups: no cgroup2 is writable here")
    starter = Starter(spawner, tree)
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    started = 0
    while starter.done < count:
        while starter.running < AT_ONCE and started < count:
            starter.start()
            started += 1
        starter.turn()
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    if tree is not None:
        tree.close()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(count / seconds, cpu / count * 1e6)


def main(*, quick: bool) -> dict[str, Any]:
    """Measure every row that is possible here, print a table, return the figures."""
    count, runs = (200, 1) if quick else (1000, 7)
    table = rows()
    with tempfile.TemporaryDirectory(prefix="scriptservice-bench-") as directory:
        os.chmod(directory, 0o711)
        for _ in range(runs):
            for name, row in table.items():
                place = os.path.join(directory, name.replace(" ", "-").replace(",", ""))
                os.makedirs(place, mode=0o711, exist_ok=True)
                os.chmod(place, 0o711)
                raw = raw_rate(count)
                found, cpu_us = rate(name, count, place)
                row.ratios.append(found / raw)
                row.rates.append(found)
                row.cpu_us.append(cpu_us)
    print(f"{'scripts run as':<36}{'started/s':>10}{'ratio':>7}{'range':>12}{'CPU us each':>13}")
    figures: dict[str, Any] = {}
    for name, row in table.items():
        figures[name] = {"ratios": row.ratios, "rates": row.rates, "cpu_us": row.cpu_us}
        between = f"{min(row.ratios):.2f}-{max(row.ratios):.2f}"
        print(
            f"{name:<36}{statistics.median(row.rates):>10.0f}{statistics.median(row.ratios):>7.2f}"
            f"{between:>12}{statistics.median(row.cpu_us):>13.0f}"
        )
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.spawning", description="Measures.")
    parser.add_argument("--quick", action="store_true", help="one short run of each")
    parser.add_argument("--row", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.row:
        measure(rows()[asked.row[0]], int(asked.row[1]), asked.row[2])
    else:
        main(quick=asked.quick)
