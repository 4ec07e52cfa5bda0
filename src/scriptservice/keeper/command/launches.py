"""The processes that were started and may not have become their scripts yet.

A process becomes its script by an exec. The keeper does not wait for the exec, but starts other
scripts meanwhile. Otherwise the keeper would spend more time waiting than working on a busy
machine. A stop, a shutdown, an upgrade and the reaping of a child must know whether a process has
become its script. They call `confirm`, which waits until that is known. ``start_queue`` owns the
launches and gets the outcome of each launch.
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
"""If a launch takes longer than this, the keeper kills the process.

For example, a script of the same user may have stopped the process.
"""
STOP_SECONDS = 0.2
"""How long a stop waits for the outcome of a launch before the process is killed.

This time is short, because the keeper does nothing else meanwhile.
"""
CONFIRM_ALL_SECONDS = 5.0
"""How long `PendingLaunches.confirm_all` waits for all launches together."""


@dataclass(frozen=True, slots=True)
class _PendingLaunch:
    spec: SpawnSpec
    spawned: SpawnedProcess
    status: int
    kill_timer: Timer


class PendingLaunches:
    """The launches whose outcome is not known yet.

    Args:
        loop: watches the status descriptor of each launch.
        spawner: reads the status.
        on_started: called for each process that has become its script.
        on_failed: called for each process that could not become its script, with the reason.
    """

    def __init__(
        self,
        loop: EventLoop,
        spawner: Spawner,
        on_started: Callable[[SpawnSpec, SpawnedProcess], None],
        on_failed: Callable[[SpawnSpec, SpawnError], None],
    ) -> None:
        self._loop = loop
        self._spawner = spawner
        self._on_started = on_started
        self._on_failed = on_failed
        self._launches: dict[str, _PendingLaunch] = {}

    def __len__(self) -> int:
        return len(self._launches)

    @property
    def command_ids(self) -> set[str]:
        """The ids of the commands whose launches are pending."""
        return set(self._launches)

    @property
    def pids(self) -> set[int]:
        """The ids of the processes whose launches are pending."""
        return {launch.spawned.pid for launch in self._launches.values()}

    def snapshot(self) -> list[dict[str, Any]]:
        """Return one entry of a SNAPSHOT record for each launch; see `RunningCommand.snapshot`."""
        entries = []
        for command_id, launch in self._launches.items():
            spawned = launch.spawned
            opened = JournaledCommand(command_id, spawned.pid, spawned.start_ticks, spawned.pipes)
            entries.append(opened.snapshot())
        return entries

    def add(self, spec: SpawnSpec, spawned: SpawnedProcess) -> None:
        """Watch a process until the outcome of its launch is known.

        If the process has already become its script, `on_started` is called at once.
        """
        if spawned.status is None:
            self._on_started(spec, spawned)
            return
        kill_timer = self._loop.after(LAUNCH_SECONDS, lambda: _kill(spawned))
        self._launches[spec.id] = _PendingLaunch(spec, spawned, spawned.status, kill_timer)
        self._loop.watch(spawned.status, lambda _: self._status_ready(spec.id))

    def confirm(self, command_id: str, seconds: float = STOP_SECONDS) -> None:
        """Wait until the outcome of a command's launch is known, if that launch is pending.

        Args:
            command_id: the command's UUID.
            seconds: how long to wait before the process is killed.
        """
        launch = self._launches.get(command_id)
        if launch is None:
            return
        poll = select.poll()
        poll.register(launch.status, select.POLLIN)
        if not poll.poll(seconds * 1000):
            # The kill closes the status pipe without a report, whether the exec has happened or
            # not. So the script counts as started and ended by SIGKILL.
            _kill(launch.spawned)
        self._status_ready(command_id)

    def confirm_process(self, pid: int) -> None:
        """If the launch of the process with this id is pending, wait for it as `confirm` does."""
        for command_id, launch in self._launches.items():
            if launch.spawned.pid == pid:
                self.confirm(command_id)
                return

    def confirm_all(self) -> None:
        """Wait for all launches as `confirm` does, at most `CONFIRM_ALL_SECONDS` in total."""
        deadline = time.monotonic() + CONFIRM_ALL_SECONDS
        for command_id in self.command_ids:
            self.confirm(command_id, max(0, deadline - time.monotonic()))

    def _status_ready(self, command_id: str) -> None:
        launch = self._launches.pop(command_id)
        self._loop.unwatch(launch.status)
        self._loop.cancel(launch.kill_timer)
        try:
            self._spawner.confirm(launch.spawned, launch.spec)
        except SpawnError as error:
            self._on_failed(launch.spec, error)
        else:
            self._on_started(launch.spec, launch.spawned)


def _kill(spawned: SpawnedProcess) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(spawned.pidfd, signal.SIGKILL)
