"""Replays traces of the state machine with real scripts, which a real keeper runs.

A trace is what happened to a `World`. The same happens here to a script that takes orders: it
forks, ignores SIGTERM, prints or exits when it is told to. After each step the journal must get the
records that the model predicts, and no other. Only then the next step follows.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scriptservice.keeper.system.linux import process_stat
from scriptservice.keeper.tree.ownership import is_dead
from scriptservice.protocol.frames import stop_frame
from scriptservice.protocol.journal_format import Kind
from support.life_world import World
from support.rig import Rig
from support.service import PATIENCE_SECONDS

NEVER_SECONDS = 1e6
SETTLED_SECONDS = 60.0
TIMEOUT_SECONDS = 0.05
LIMIT_BYTES = 1000
AT_ONCE = 16

SCRIPT = f"""
import os, signal, sys

orders = open(sys.argv[1] + "/orders")
answers = os.open(sys.argv[1] + "/answers", os.O_WRONLY)


def fork(handler):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, handler)
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.write(writing, b"x")
        while True:
            signal.pause()
    os.read(reading, 1)
    return pid


os.write(answers, b"%d\\n" % os.getpid())
for order in orders:
    order, answer = order.strip(), os.getpid()
    if order == "exit":
        os._exit(0)
    elif order == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif order == "fork":
        answer = fork(signal.SIG_DFL)
    elif order == "fork a stubborn one":
        answer = fork(signal.SIG_IGN)
    elif order == "print":
        os.write(1, b"x" * {LIMIT_BYTES + 1})
        continue  # The keeper may end this script before it could answer.
    os.write(answers, b"%d\\n" % answer)
"""

Kinds = list[str]


class Replay:
    """One trace, as a model and as a script.

    Args:
        rig: the keeper.
        trace: the trace of a `World`.
        directory: an empty directory for this replay.
        private: whether the script has a private directory.
        leftovers_stay: whether leftovers get no signal before a stop; otherwise they get it at
            once.
        timeout: whether the script's time-out ends soon after its start.

    Attributes:
        id: the command's UUID.
        expected: the kinds of the records that the journal must have now.
        world: the model.
    """

    def __init__(
        self,
        rig: Rig,
        trace: list[tuple[Any, ...]],
        directory: Path,
        *,
        private: bool,
        leftovers_stay: bool,
        timeout: bool,
    ) -> None:
        self._rig = rig
        self._trace = trace
        self._directory = directory
        self._pids: list[int] = []
        self._held: int | None = None
        for name in ("orders", "answers"):
            os.mkfifo(directory / name)
        self._orders = os.open(directory / "orders", os.O_RDWR)
        self._answers = os.open(directory / "answers", os.O_RDWR)
        self.world = World(
            grace_seconds=NEVER_SECONDS,
            leftover_seconds=NEVER_SECONDS if leftovers_stay else 0.0,
            timeout_seconds=TIMEOUT_SECONDS if timeout else None,
            has_private_directory=private,
        )
        fails = next((name for name, *_ in trace if name.startswith("exec_")), "") == "exec_fails"
        self._starts = not fails
        self.id = rig.spawn(
            SCRIPT,
            ["/nowhere/interpreter" if fails else sys.executable, "-I", "-S"],
            args=[str(directory)],
            working_directory="private" if private else None,
            timeout_seconds=self.world.timeout_seconds,
            grace_seconds=NEVER_SECONDS,
            leftover_seconds=self.world.leftover_seconds,
            output_limit_bytes=LIMIT_BYTES,
            on_output_limit="stop",
        )

    @property
    def expected(self) -> Kinds:
        return self.world.records

    def steps(self) -> Iterator[None]:
        """Do one step of the trace after the other, each when the journal is as expected."""
        if self._starts:
            self.world.exec_succeeds()
            if self.world.timeout_seconds is None:
                self._pid = self._answer()
        else:
            self.world.exec_fails()
        self._settle()
        yield
        for name, *arguments in self._trace:
            if self.world.is_closed:
                break
            if self._can(name):
                getattr(self, f"_{name}")(*arguments)
                self._settle()
                yield
        while not self.world.is_closed:
            self._end()
            self._settle()
            yield

    def _can(self, name: str) -> bool:
        """Return whether this step can happen to the script, and has a meaning."""
        if name in ("script_exits", "forks", "ignores"):
            return self.world.process == "script"
        return name in ("leftover_ends", "stop", "hold")

    def _settle(self) -> None:
        """Let everything happen in the model that happens soon."""
        world = self.world
        before = None
        while before != (world.life.phase, world.process, len(world.records)):
            before = world.life.phase, world.process, len(world.records)
            world.reap()
            world.removed()
            world.passes(SETTLED_SECONDS)

    def _end(self) -> None:
        """Do one of the things that end the script, its tree and its output."""
        if self.world.process == "script":
            if self.world.life.timeout_seconds is None:
                self._script_exits()
            else:
                self._stop("stop", 0.0)
        elif self.world.held_open:
            self._hold(held=False)
        elif self.world.leftovers:
            self._leftover_ends()
        else:
            raise AssertionError(f"the model does not end: {self.world}")

    # The steps

    def _order(self, order: str) -> None:
        os.write(self._orders, f"{order}\n".encode())

    def _answer(self) -> int:
        ready, _, _ = select.select([self._answers], [], [], PATIENCE_SECONDS)
        assert ready, "the script does not answer"
        return int(os.read(self._answers, 64))

    def _script_exits(self) -> None:
        self._order("exit")
        self.world.script_exits()

    def _forks(self, ignores_sigterm: bool) -> None:
        self._order("fork a stubborn one" if ignores_sigterm else "fork")
        self.world.forks(ignores_sigterm=ignores_sigterm)
        self.world.leftovers[-1].pid = self._answer()
        self._pids.append(self.world.leftovers[-1].pid)

    def _ignores(self) -> None:
        self._order("ignore")
        self._answer()
        self.world.ignores()

    def _leftover_ends(self) -> None:
        if self.world.leftovers:
            os.kill(self.world.leftovers[-1].pid, signal.SIGKILL)
        self.world.leftover_ends()

    def _hold(self, held: bool) -> None:
        if held and self._held is None and self.world.process == "script":
            self._held = os.open(f"/proc/{self._pid}/fd/1", os.O_WRONLY)
            self.world.hold(held=True)
        elif not held and self._held is not None:
            os.close(self._held)
            self._held = None
            self.world.hold(held=False)

    def _stop(self, cause: str, grace_seconds: float) -> None:
        if cause == "limit":
            if self.world.process == "script" and self.world.life.cause is None:
                self._order("print")
                self.world.stop("limit", NEVER_SECONDS)
            return
        grace_seconds = NEVER_SECONDS if grace_seconds else 0.0
        self._rig.send(stop_frame(self.id, "SIGTERM", grace_seconds))
        self.world.stop("stop", grace_seconds)

    def close(self) -> None:
        """Check that nothing is left of the script, and close what is open."""
        for descriptor in (self._orders, self._answers):
            os.close(descriptor)
        if self._held is not None:
            os.close(self._held)
        for pid in self._pids:
            stat = process_stat(pid)
            assert stat is None or is_dead(stat) or stat.parent != self._rig.process.pid


def kinds_by_command(rig: Rig) -> dict[str, Kinds]:
    """Return the kinds of the records of each command that tell of its life."""
    found: dict[str, Kinds] = {}
    shown = (Kind.STARTED, Kind.REFUSED, Kind.STOPPING, Kind.EXITED, Kind.CLOSED, Kind.LOST)
    for record in rig.records():
        if record.kind in shown:
            found.setdefault(record.command_id.hex(), []).append(record.kind.name)
    return found


def replay_all(rig: Rig, traces: list[list[tuple[Any, ...]]], directory: Path) -> None:
    """Replay these traces, some at a time.

    Raises:
        AssertionError: the journal did not get the records that the model predicts.
    """
    waiting = list(enumerate(traces))
    running: list[tuple[Replay, Iterator[None], float]] = []
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            number, trace = waiting.pop()
            place = directory / str(number)
            place.mkdir()
            replay = Replay(
                rig,
                trace,
                place,
                private=number % 2 == 0,
                leftovers_stay=number % 4 < 2,
                timeout=number % 7 == 0,
            )
            steps = replay.steps()
            next(steps)
            running.append((replay, steps, time.monotonic()))
        found = kinds_by_command(rig)
        still: list[tuple[Replay, Iterator[None], float]] = []
        for replay, steps, since in running:
            kinds = found.get(replay.id.replace("-", ""), [])
            if kinds == replay.expected:
                if next(steps, steps) is not steps:
                    still.append((replay, steps, time.monotonic()))
                    continue
                assert replay.world.is_closed
                replay.close()
                continue
            difference = f"{kinds} instead of {replay.expected}: {replay.world}"
            assert kinds == replay.expected[: len(kinds)], difference
            assert time.monotonic() - since < PATIENCE_SECONDS, difference
            still.append((replay, steps, since))
        running = still
        time.sleep(0.005)
