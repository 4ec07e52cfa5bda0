"""The scripts whose process is there and may not have become the script yet.

A launcher is on its way to its exec, in the time that takes other scripts are started: waiting for
each would leave the keeper idle for longer than it works, on a machine with much to do. Whatever
needs certainty asks for it here (`settle`): a stop, a shutdown, an upgrade, a reaped child.
``waiting`` owns it and is told what became of each.
"""

import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from scriptservice.keeper.previous_keeper import JournaledCommand
from scriptservice.keeper.spawn.spawn_error import SpawnError
from scriptservice.keeper.spawn.spawned_process import SpawnedProcess
from scriptservice.keeper.spawn.spawner import Spawner
from scriptservice.keeper.system.event_loop import EventLoop, Timer
from scriptservice.protocol.frames import SpawnSpec

LAUNCH_SECONDS = 30.0
"""A launcher that takes longer was stopped by a script of the same user, and is killed."""
STOP_SECONDS = 0.2
"""The same where it is to be stopped, and the keeper stands still meanwhile."""
SETTLE_SECONDS = 5.0
"""The same for all together where none may be on its way any more."""


@dataclass(frozen=True, slots=True)
class _PendingLaunch:
    spec: SpawnSpec
    spawned: SpawnedProcess
    status: int
    overdue: Timer


class PendingLaunches:
    """Launchers that are on their way.

    Args:
        loop: tells when one has arrived.
        spawner: knows what it says then.
        begun: told of each script that runs from now on.
        failed: told of each that does not, and why.
    """

    def __init__(
        self,
        loop: EventLoop,
        spawner: Spawner,
        begun: Callable[[SpawnSpec, SpawnedProcess], None],
        failed: Callable[[SpawnSpec, SpawnError], None],
    ) -> None:
        self._loop = loop
        self._spawner = spawner
        self._begun = begun
        self._failed = failed
        self._launches: dict[str, _PendingLaunch] = {}

    def __len__(self) -> int:
        return len(self._launches)

    @property
    def commands(self) -> set[str]:
        """The ids of their commands."""
        return set(self._launches)

    @property
    def pids(self) -> set[int]:
        """Their process ids."""
        return {launch.spawned.pid for launch in self._launches.values()}

    def snapshot(self) -> list[dict[str, Any]]:
        """Return what a later keeper needs; see `RunningCommand.snapshot`."""
        found = []
        for command, launch in self._launches.items():
            spawned = launch.spawned
            opened = JournaledCommand(command, spawned.pid, spawned.start_ticks, spawned.pipes)
            found.append(opened.snapshot())
        return found

    def add(self, spec: SpawnSpec, spawned: SpawnedProcess) -> None:
        """A process was started."""
        if spawned.status is None:
            self._begun(spec, spawned)
            return
        overdue = self._loop.after(LAUNCH_SECONDS, lambda: _kill(spawned))
        self._launches[spec.id] = _PendingLaunch(spec, spawned, spawned.status, overdue)
        self._loop.watch(spawned.status, lambda _: self._arrived(spec.id))

    def settle(self, command: str, seconds: float = STOP_SECONDS) -> None:
        """Wait until it is certain what became of one; without effect if it is not on its way.

        Args:
            command: its id.
            seconds: when it is killed.
        """
        launch = self._launches.get(command)
        if launch is None:
            return
        poll = select.poll()
        poll.register(launch.status, select.POLLIN)
        if not poll.poll(seconds * 1000):
            # Killed after its exec or before it: it counts as begun, and as ended by the signal.
            _kill(launch.spawned)
        self._arrived(command)

    def settle_process(self, pid: int) -> None:
        """The same for a process."""
        for command, launch in self._launches.items():
            if launch.spawned.pid == pid:
                self.settle(command)
                return

    def settle_all(self) -> None:
        """The same for all."""
        deadline = time.monotonic() + SETTLE_SECONDS
        for command in self.commands:
            self.settle(command, max(0, deadline - time.monotonic()))

    def _arrived(self, command: str) -> None:
        launch = self._launches.pop(command)
        self._loop.unwatch(launch.status)
        self._loop.cancel(launch.overdue)
        try:
            self._spawner.confirm(launch.spawned, launch.spec)
        except SpawnError as error:
            self._failed(launch.spec, error)
        else:
            self._begun(launch.spec, launch.spawned)


def _kill(spawned: SpawnedProcess) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(spawned.pidfd, signal.SIGKILL)
