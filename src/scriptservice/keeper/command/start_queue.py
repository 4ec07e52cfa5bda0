"""The scripts that were asked for and are not started yet: when each is, or that it never is.

They wait for room on the disk, for descriptors, and for others to be born: hundreds of newborn
processes at once cost each other a third.
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

NEWBORNS = 64
NEWBORN_SECONDS = 0.02
SPAWNS_A_TURN = 8
_NO_RECORD = "the record of its end is missing; its output may be incomplete"


class StartQueue:
    """Starts scripts, each once, a few at a time.

    Attributes:
        launches: the processes that may not have become their scripts yet.

    Args:
        spawner: makes processes.
        context: what running commands share.
        ended: the ids that are refused a second time.
        running: the commands that run, by id.
        started: told of each that runs from now on.
    """

    def __init__(
        self,
        spawner: Spawner,
        context: CommandContext,
        ended: EndedIds,
        running: dict[str, RunningCommand],
        started: Callable[[RunningCommand], None],
    ) -> None:
        self._spawner = spawner
        self._context = context
        self._ended = ended
        self._running = running
        self._started = started
        self.launches = PendingLaunches(context.loop, spawner, self._begun, self._failed)
        self._specs: dict[str, SpawnSpec] = {}
        self._births: deque[RunningCommand] = deque()
        self._room_timer = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._specs)

    def asked(self, spec: SpawnSpec) -> None:
        """The child wants a script to run."""
        known = (self._running, self.launches.commands, self._specs, self._ended)
        if any(spec.id in commands for commands in known):
            logger.warning("command_sent_twice", command_id=spec.id, detail="it runs once")
            if spec.id in self._ended and not self._ended.was_given_back(spec.id):
                # Who sends it has found no record of its end. If that is just not read yet it
                # comes first, and counts; else it is damaged, and nothing else would end it.
                self._context.journal.append(Kind.LOST, spec.id, {"reason": _NO_RECORD})
        elif self._closed:
            self._refuse(spec.id, "the service is shutting down", retry=True)
        else:
            self._specs[spec.id] = spec

    def stop(self, command: str) -> None:
        """A command is to end; without effect if it does not wait here."""
        if self._specs.pop(command, None):
            self._refuse(command, "stopped before it started", retry=False, stopped=True)

    def expire(self, command: str) -> None:
        """A command's queue time-out has passed; without effect if it does not wait here."""
        if self._specs.pop(command, None):
            reason = "it waited longer than its queue time-out"
            self._refuse(command, reason, retry=False, timed_out=True)

    def shut_down(self) -> None:
        """Start no more, give back what waits."""
        self._closed = True
        self.launches.settle_all()
        for command in list(self._specs):
            del self._specs[command]
            self._refuse(command, "the service is shutting down", retry=True)

    def _refuse(
        self,
        command: str,
        reason: str,
        *,
        retry: bool,
        stopped: bool = False,
        timed_out: bool = False,
    ) -> None:
        fields = {"reason": reason, "retry": retry, "stopped": stopped, "timed_out": timed_out}
        self._context.journal.append(Kind.REFUSED, command, fields)
        # Also one that may come again: not before this is recorded, or it would run unseen.
        self._ended.add(command, given_back=retry)

    def _newborns(self) -> int:
        """Return how many scripts are so young that more would slow them all."""
        born_before = time.monotonic() - NEWBORN_SECONDS
        births = self._births
        while births and (births[0].exited or births[0].started < born_before):
            births.popleft()
        return len(self.launches) + sum(not command.exited for command in births)

    def start_some(self) -> None:
        """Start what can be started now."""
        if not self._specs:
            return
        for _ in range(min(SPAWNS_A_TURN, NEWBORNS - self._newborns())):
            started = len(self._running) + len(self.launches)
            if not self._specs or started >= self._spawner.capacity:
                return
            spec = next(iter(self._specs.values()))
            if not self._start(spec):
                return
        if self._specs and not self._room_timer:
            self._room_timer = True
            self._context.loop.after(NEWBORN_SECONDS / 8, self._room_for_births)

    def _room_for_births(self) -> None:
        self._room_timer = False

    def _start(self, spec: SpawnSpec) -> bool:
        """Start a script; return False if it has to wait for room on the disk."""
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
            self._failed(spec, error)
            return True
        finally:
            if cgroup is not None:
                os.close(cgroup)
        reached("spawn.spawned")
        self.launches.add(spec, spawned)
        return True

    def _failed(self, spec: SpawnSpec, error: SpawnError) -> None:
        """There is no process of the script's, and never was."""
        # Not why: that may quote what was submitted. The command says it.
        logger.info("command_not_started", command_id=spec.id, retry=error.retry)
        self._context.tree.forget(_Nobody(spec.id))
        self._refuse(spec.id, str(error), retry=error.retry)

    def _begun(self, spec: SpawnSpec, spawned: SpawnedProcess) -> None:
        """A process is the script."""
        reached("spawn.begun")
        command = RunningCommand(spec, spawned, self._context)
        self._births.append(command)
        self._started(command)

    def to_state(self) -> list[dict[str, Any]]:
        """Return what waits, for the keeper's next program."""
        return [spec.fields() for spec in self._specs.values()]

    def restore(self, waiting: list[dict[str, Any]]) -> None:
        """Take over what waited with the keeper's program before this one."""
        for fields in waiting:
            spec = SpawnSpec(**fields)
            self._specs[spec.id] = spec


class _Nobody:
    """A tree's root that was never started."""

    def __init__(self, command: str) -> None:
        self.id = command
        self.pid = 0
        self.exited = True
