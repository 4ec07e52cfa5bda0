"""The queue of scripts that the server has sent and that are not started yet.

A script waits for room on the disk, for descriptors, and until fewer other processes are starting.
The number of starting processes is limited because hundreds of processes that start at the same
time slow each other down by a third.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from scriptservice.keeper.command.command import CommandContext, RunningCommand
from scriptservice.keeper.command.ended_ids import EndedIds
from scriptservice.keeper.command.start import CommandStart
from scriptservice.keeper.journal.journal_writer import NoRoomError
from scriptservice.keeper.life.actions import Refuse
from scriptservice.keeper.spawn.spawn_error import SpawnError
from scriptservice.keeper.spawn.spawner import DESCRIPTORS_PER_SCRIPT, Spawner
from scriptservice.keeper.system.keeper_log import logger
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
        spawner: makes processes.
        context: shared by all running commands.
        ended_ids: the ids of ended commands, which are not started again.
        running: the running commands, by id; this class does not change the dictionary.
        on_made: called with each command whose process was made.
    """

    def __init__(
        self,
        spawner: Spawner,
        context: CommandContext,
        ended_ids: EndedIds,
        running: dict[str, RunningCommand],
        on_made: Callable[[RunningCommand], None],
    ) -> None:
        self._spawner = spawner
        self._context = context
        self._ended_ids = ended_ids
        self._running = running
        self._on_made = on_made
        self._loop = context.loop.supervised(self)
        self._specs: dict[str, SpawnSpec] = {}
        self._starting: set[str] = set()
        self._just_started: deque[tuple[float, RunningCommand]] = deque()
        self._input_pipes = 0
        self._wakeup_set = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._specs)

    def spawn_requested(self, spec: SpawnSpec) -> None:
        """Add a script to the queue, unless its command is known already."""
        known = (self._running, self._specs, self._ended_ids)
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

    def made(self, command: RunningCommand) -> None:
        """Count the descriptors of a command whose process was made or handed over."""
        self._input_pipes += command.has_input_pipe

    def ended(self, command: RunningCommand) -> None:
        """Stop counting the descriptors of a command."""
        self._input_pipes -= command.has_input_pipe

    def _has_capacity(self) -> bool:
        free_scripts = self._spawner.capacity - len(self._running)
        return free_scripts * DESCRIPTORS_PER_SCRIPT > self._input_pipes

    def started(self, command: RunningCommand) -> None:
        """Note that a process has become its script, or counts as started."""
        self._starting.discard(command.id)
        self._just_started.append((time.monotonic(), command))

    def refused(self, command: RunningCommand, refusal: Refuse) -> None:
        """Append the REFUSED record of a command whose process did not become its script."""
        self._starting.discard(command.id)
        self._refuse_start(command.id, refusal.reason, retry=refusal.retry, stopped=refusal.stopped)

    def callback_failed(self, error: Exception) -> None:
        """Do nothing: the loop calls `start_some` again after a pause."""

    def _starting_count(self) -> int:
        """Return how many processes count as starting; see `STARTING_SECONDS`."""
        started_before = time.monotonic() - STARTING_SECONDS
        recent = self._just_started
        while recent and (recent[0][1].exited or recent[0][0] < started_before):
            recent.popleft()
        return len(self._starting) + sum(not command.exited for _, command in recent)

    def start_some(self) -> None:
        """Start as many scripts as may start now; called after each batch of events."""
        if not self._specs:
            return
        for _ in range(min(MAX_SPAWNS_PER_BATCH, MAX_STARTING - self._starting_count())):
            if not self._specs or not self._has_capacity():
                return
            if not self._start(next(iter(self._specs.values()))):
                return
        if self._specs and not self._wakeup_set:
            # The timer itself starts no script. It makes the loop run another batch, and the keeper
            # calls this method after each batch.
            self._wakeup_set = True
            self._loop.after(STARTING_SECONDS / 8, self._woke_up)

    def _woke_up(self) -> None:
        self._wakeup_set = False

    def _start(self, spec: SpawnSpec) -> bool:
        """Start a script; return False if it has to wait for room on the disk."""
        try:
            command = CommandStart(spec, self._spawner, self._context).run()
        except NoRoomError:
            return False
        except SpawnError as error:
            del self._specs[spec.id]
            self._refuse_start(spec.id, str(error), retry=error.retry)
            return True
        del self._specs[spec.id]
        self._starting.add(spec.id)
        self._on_made(command)
        return True

    def _refuse_start(
        self, command_id: str, reason: str, *, retry: bool, stopped: bool = False
    ) -> None:
        # The log does not get the reason, which may quote what a client submitted. The reason is
        # stored with the command.
        logger.info("command_not_started", command_id=command_id, retry=retry)
        self._refuse(command_id, reason, retry=retry, stopped=stopped)

    def to_state(self) -> list[dict[str, Any]]:
        """Return the queued scripts, for the keeper's next program."""
        return [spec.fields() for spec in self._specs.values()]

    def restore(self, waiting: list[dict[str, Any]]) -> None:
        """Continue with the queue that the keeper's previous program handed over."""
        for fields in waiting:
            spec = SpawnSpec(**fields)
            self._specs[spec.id] = spec
