"""The queue of scripts that the server has sent and that are not started yet.

A script waits for room on the disk, for descriptors, and until fewer other processes are starting.
The number of starting processes is limited because hundreds of processes that start at the same
time slow each other down by a third.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from scriptservice.keeper.command.command import CommandContext, RunningCommand
from scriptservice.keeper.command.ended_ids import EndedIds
from scriptservice.keeper.command.launches import PendingLaunches
from scriptservice.keeper.journal.journal_writer import NoRoomError
from scriptservice.keeper.spawn.spawn_error import SpawnError
from scriptservice.keeper.spawn.spawned_process import SpawnedProcess
from scriptservice.keeper.spawn.spawner import Spawner
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.protocol.fault_points import reached
from scriptservice.protocol.frames import SpawnSpec
from scriptservice.protocol.journal_format import Kind

MAX_STARTING = 64
"""At most this many processes start at a time."""
STARTING_SECONDS = 0.02
"""A process counts as starting for this long after it has become its script."""
MAX_SPAWNS_PER_BATCH = 8
_NO_RECORD = "the record of its end is missing; its output may be incomplete"


class StartQueue:
    """Starts scripts, each once, a few at a time.

    Args:
        spawner: starts processes.
        context: shared by all running commands.
        ended_ids: the ids of ended commands, which are not started again.
        running: the running commands, by id; this class does not change the dictionary.
        on_started: called with each command that has started.

    Attributes:
        launches: the processes that may not have become their scripts yet.
    """

    def __init__(
        self,
        spawner: Spawner,
        context: CommandContext,
        ended_ids: EndedIds,
        running: dict[str, RunningCommand],
        on_started: Callable[[RunningCommand], None],
    ) -> None:
        self._spawner = spawner
        self._context = context
        self._ended_ids = ended_ids
        self._running = running
        self._on_started = on_started
        self.launches = PendingLaunches(
            context.loop, spawner, self._launch_succeeded, self._launch_failed
        )
        self._specs: dict[str, SpawnSpec] = {}
        self._just_started: deque[RunningCommand] = deque()
        self._wakeup_set = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._specs)

    def spawn_requested(self, spec: SpawnSpec) -> None:
        """Add a script to the queue, unless its command is known already."""
        known = (self._running, self.launches.command_ids, self._specs, self._ended_ids)
        if any(spec.id in ids for ids in known):
            logger.warning("command_sent_twice", command_id=spec.id, detail="it runs once")
            if spec.id in self._ended_ids and not self._ended_ids.was_given_back(spec.id):
                # The server has sent this command because it has not found the record of the
                # command's end in the journal. Perhaps the server has not read that record yet.
                # Then it reads that record first and ignores this LOST record. If that record is
                # damaged, this LOST record ends the command.
                self._context.journal.append(Kind.LOST, spec.id, {"reason": _NO_RECORD})
        elif self._closed:
            self._refuse(spec.id, "the service is shutting down", retry=True)
        else:
            self._specs[spec.id] = spec

    def stop(self, command_id: str) -> None:
        """If a command is queued, refuse to start it, since a client has stopped it."""
        if self._specs.pop(command_id, None):
            self._refuse(command_id, "stopped before it started", retry=False, stopped=True)

    def expire(self, command_id: str) -> None:
        """If a command is queued, refuse to start it, since its queue time-out has passed."""
        if self._specs.pop(command_id, None):
            reason = "it waited longer than its queue time-out"
            self._refuse(command_id, reason, retry=False, timed_out=True)

    def shut_down(self) -> None:
        """Start no more scripts, and give the queued ones back to the server."""
        self._closed = True
        self.launches.confirm_all()
        for command_id in list(self._specs):
            del self._specs[command_id]
            self._refuse(command_id, "the service is shutting down", retry=True)

    def _refuse(
        self,
        command_id: str,
        reason: str,
        *,
        retry: bool,
        stopped: bool = False,
        timed_out: bool = False,
    ) -> None:
        fields = {"reason": reason, "retry": retry, "stopped": stopped, "timed_out": timed_out}
        self._context.journal.append(Kind.REFUSED, command_id, fields)
        # The id is added even if the server may send the command again later (`retry`). Otherwise
        # the command could be sent and started before its refusal is stored. The command would then
        # run although the database says that it was refused.
        self._ended_ids.add(command_id, given_back=retry)

    def _starting_count(self) -> int:
        """Return how many processes count as starting; see `STARTING_SECONDS`."""
        started_before = time.monotonic() - STARTING_SECONDS
        just_started = self._just_started
        while just_started and (just_started[0].exited or just_started[0].started < started_before):
            just_started.popleft()
        return len(self.launches) + sum(not command.exited for command in just_started)

    def start_some(self) -> None:
        """Start as many scripts as the limits allow now; called after each batch of events."""
        if not self._specs:
            return
        for _ in range(min(MAX_SPAWNS_PER_BATCH, MAX_STARTING - self._starting_count())):
            in_use = len(self._running) + len(self.launches)
            if not self._specs or in_use >= self._spawner.capacity:
                return
            spec = next(iter(self._specs.values()))
            if not self._start(spec):
                return
        if self._specs and not self._wakeup_set:
            # The timer itself starts no script. It makes the loop run another batch, and the keeper
            # calls this method after each batch.
            self._wakeup_set = True
            self._context.loop.after(STARTING_SECONDS / 8, self._woke_up)

    def _woke_up(self) -> None:
        self._wakeup_set = False

    def _start(self, spec: SpawnSpec) -> bool:
        """Start a script; return False if the script has to wait for room on the disk."""
        try:
            self._context.journal.append_now(Kind.STARTING, spec.id, {})
        except NoRoomError:
            return False
        del self._specs[spec.id]
        reached("spawn.starting")
        tree = self._context.tree
        cgroup: int | None = None
        try:
            try:
                cgroup = tree.open_join_file(spec.id)
            except OSError as error:
                raise SpawnError(f"cannot make its cgroup: {error.strerror}", retry=True) from error
            spawned = self._spawner.spawn(spec, cgroup)
        except SpawnError as error:
            self._launch_failed(spec, error)
            return True
        finally:
            if cgroup is not None:
                os.close(cgroup)
        reached("spawn.spawned")
        self.launches.add(spec, spawned)
        return True

    def _launch_failed(self, spec: SpawnSpec, error: SpawnError) -> None:
        # The reason may quote text that a client submitted. So the reason is stored with the
        # command, but it is not logged.
        logger.info("command_not_started", command_id=spec.id, retry=error.retry)
        self._context.tree.forget(_NeverStarted(spec.id))
        self._refuse(spec.id, str(error), retry=error.retry)

    def _launch_succeeded(self, spec: SpawnSpec, spawned: SpawnedProcess) -> None:
        reached("spawn.begun")
        command = RunningCommand(spec, spawned, self._context)
        self._just_started.append(command)
        self._on_started(command)

    def to_state(self) -> list[dict[str, Any]]:
        """Return the queued scripts, for the keeper's next program."""
        return [spec.fields() for spec in self._specs.values()]

    def restore(self, waiting: list[dict[str, Any]]) -> None:
        """Continue with the queue that the keeper's previous program handed over."""
        for fields in waiting:
            spec = SpawnSpec(**fields)
            self._specs[spec.id] = spec


class _NeverStarted:
    """The `TreeRoot` of a script that was not started; the tree needs it to remove the cgroup."""

    def __init__(self, command_id: str) -> None:
        self.id = command_id
        self.pid = 0
        self.exited = True
