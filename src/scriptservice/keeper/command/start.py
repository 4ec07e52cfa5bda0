"""One start of a script: from its STARTING record to a process that may become the script.

Everything that a start makes is on one exit stack. Whatever fails, at whatever line, the stack
kills what was made and closes what was opened, and the command is refused.
"""

import os
import time
from base64 import b64encode
from contextlib import ExitStack

from scriptservice.keeper.command.command import CommandContext, RunningCommand
from scriptservice.keeper.command.output_pipes import STDERR, STDOUT
from scriptservice.keeper.life.kept_command import KeptCommand, KeptInput
from scriptservice.keeper.life.life import new_life
from scriptservice.keeper.spawn.spawn_error import SpawnError
from scriptservice.keeper.spawn.spawned_process import SpawnedProcess
from scriptservice.keeper.spawn.spawner import Spawner
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.protocol.fault_points import reached
from scriptservice.protocol.frames import SpawnSpec
from scriptservice.protocol.journal_format import Kind


class CommandStart:
    """One start of a script.

    Args:
        spec: the script.
        spawner: makes processes.
        context: the parts of the keeper that all commands share.
    """

    def __init__(self, spec: SpawnSpec, spawner: Spawner, context: CommandContext) -> None:
        self._spec = spec
        self._spawner = spawner
        self._context = context

    def run(self) -> RunningCommand:
        """Append STARTING, make the process, and return its command.

        The command is in the phase STARTING: whether the process becomes the script is not known
        yet, and this method does not wait for it.

        Raises:
            NoRoomError: the disk has no room for the record; nothing was done.
            SpawnError: the script was not started, and nothing is left of the start.
        """
        self._context.journal.append_now(Kind.STARTING, self._spec.id, {})
        reached("spawn.starting")
        try:
            with ExitStack() as made:
                command = self._make(made)
                made.pop_all()
        except SpawnError:
            raise
        except Exception as error:
            # This includes what fails while the stack undoes the start. The command must be
            # refused, since STARTING is in the journal and the process may have run for a moment.
            logger.exception("keeper_fault", detail="a command is refused; the keeper continues")
            message = "cannot start the script: the keeper failed"
            raise SpawnError(message, retry=False) from error
        return command

    def _make(self, made: ExitStack) -> RunningCommand:
        spec, tree = self._spec, self._context.tree
        made.callback(tree.forget, _NoProcess(spec.id))
        with ExitStack() as needed:
            try:
                join = tree.open_join_file(spec.id)
            except OSError as error:
                raise SpawnError(f"cannot make its cgroup: {error.strerror}", retry=True) from error
            if join is not None:
                needed.callback(os.close, join)
            spawned = self._spawner.spawn(spec, join, made)
        reached("spawn.spawned")
        command = RunningCommand(_kept(spec, spawned), self._context)
        made.callback(command.unwatch)
        command.watch()
        return command


def _kept(spec: SpawnSpec, spawned: SpawnedProcess) -> KeptCommand:
    now = time.monotonic()
    return KeptCommand(
        id=spec.id,
        life=new_life(
            now,
            grace_seconds=spec.grace_seconds,
            leftover_seconds=spec.leftover_seconds,
            timeout_seconds=spec.timeout_seconds,
            has_private_directory=spawned.private_directory is not None,
        ),
        pid=spawned.pid,
        start_ticks=spawned.start_ticks,
        pipes=list(spawned.pipes),
        handle=spawned.pidfd,
        status=spawned.status,
        streams=[[spawned.stdout, STDOUT]]
        + ([] if spawned.stderr is None else [[spawned.stderr, STDERR]]),
        started=now,
        private_directory=spawned.private_directory,
        interpreter=spec.interpreter[0],
        working_directory=spec.working_directory,
        limit=spec.output_limit_bytes,
        stop_on_limit=spec.on_output_limit == "stop",
        input=_kept_input(spec, spawned),
    )


def _kept_input(spec: SpawnSpec, spawned: SpawnedProcess) -> KeptInput | None:
    if spawned.stdin is None:
        return None
    text = b"" if spec.stdin is None else spec.stdin.encode()
    return KeptInput(spawned.stdin, spec.pty is not None, waiting=b64encode(text).decode())


class _NoProcess:
    """The `TreeRoot` of a script without a process, so that its cgroup can be removed."""

    def __init__(self, command_id: str) -> None:
        self.id = command_id
        self.pid = None
        self.start_ticks = 0
        self.exited = True
