"""Ends the scripts of a previous keeper that died; a keeper does this at its start.

The journal tells which commands were open (``previous_keeper``). The keeper searches /proc for the
processes that survived. It opens the read ends of their pipes, kills the processes, and moves the
output that is still in the pipes to the journal. Then it appends the last record of each open
command: CLOSED if the script's exit is in the journal, else LOST. A command is also LOST if it has
a process that the keeper may not signal; the reason names this process.
"""

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

from scriptservice.keeper.journal.journal_writer import JournalWriter, NoRoomError
from scriptservice.keeper.life.kept_command import KeptCommand
from scriptservice.keeper.previous_keeper import PreviousKeeper, read_previous_keeper
from scriptservice.keeper.system.identity import Identity
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.system.linux import (
    ProcessStat,
    all_pids,
    bytes_waiting,
    file_access_as_owner,
    ignore_vanished,
    is_resource_shortage,
    process_stat,
)
from scriptservice.keeper.tree.cgroup import (
    command_cgroups,
    kill_cgroup,
    own_cgroup,
    remove_keeper_cgroups,
)
from scriptservice.keeper.tree.killing import Found, kill_until_quiet
from scriptservice.keeper.tree.ownership import (
    Ownership,
    UndecidedError,
    add_descendants,
    is_dead,
    owns_session,
)
from scriptservice.keeper.tree.process_tree import Unkillable
from scriptservice.protocol.clock import now_us
from scriptservice.protocol.fault_points import reached
from scriptservice.protocol.journal_format import Kind

_STEP_SECONDS = 0.02
_EXEC_ATTEMPTS = 50
_EXEC_ATTEMPT_SECONDS = 0.001
_DRAIN_ROUNDS = 256
# A process that survives SIGKILL for this long is waiting in the kernel for a device.
_SURVIVORS_SECONDS = 10
_RETRY_SECONDS = 1
# A keeper that is asked to end waits this long for room for output that only it can still read.
_HELD_OUTPUT_SECONDS = 5
# Descriptors that a recovery needs besides the read ends of pipes.
_SPARE_DESCRIPTORS = 32
_MAX_BATCH = 10_000


class RecoveryEndedError(Exception):
    """The keeper was asked to end during the recovery; the next keeper recovers the rest."""


def recover(
    directory: str,
    identity: Identity,
    cgroup: str | None,
    *,
    reserve_bytes: int,
    snapshot: Callable[[], dict[str, Any]],
    should_end: Callable[[], bool],
) -> JournalWriter:
    """Open a repaired journal, and end the commands that the previous keeper left open.

    While the disk is full, this function waits for room. No script may start before the journal
    contains the end of every earlier command.

    Args:
        directory: the directory of the journal's segments.
        identity: the identity of the keeper that runs now.
        cgroup: the directory of that keeper's cgroups, None if it uses no cgroups.
        reserve_bytes: see `JournalWriter`.
        snapshot: see `JournalWriter`; called only after the recovery.
        should_end: returns whether this keeper was asked to end.

    Returns:
        The journal's writer.

    Raises:
        NoRoomError: the disk has no room for the journal's first segment.
        RecoveryEndedError: ``should_end`` has returned True. Nothing is lost.
        OSError: the journal cannot be read or written.
    """
    previous = read_previous_keeper(directory, should_end)
    if should_end():
        raise RecoveryEndedError
    recovered = False

    def current_snapshot() -> dict[str, Any]:
        if recovered:
            return snapshot()
        if previous.identity is None:
            return {"identity": identity.fields(), "cgroup": cgroup, "open": []}
        # If this keeper dies during the recovery, the next keeper must still find the commands
        # that the previous keeper left open.
        return {
            "identity": previous.identity.fields(),
            "cgroup": previous.cgroup,
            "open": [command.snapshot() for command in previous.open.values()],
        }

    writer = JournalWriter(directory, reserve_bytes=reserve_bytes, snapshot=current_snapshot)
    recovery = Recovery(previous, writer, identity, should_end)
    try:
        with _all_descriptors_allowed():
            _recover_when_possible(recovery, previous, writer, should_end)
    except RecoveryEndedError:
        recovery.close()
        writer.close()
        raise
    recovered = True
    return writer


@contextmanager
def _all_descriptors_allowed() -> Iterator[None]:
    """Raise the soft limit of descriptors to the hard limit while the block runs.

    After the block the soft limit is restored, since scripts inherit this limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _recover_when_possible(
    recovery: "Recovery",
    previous: PreviousKeeper,
    writer: JournalWriter,
    should_end: Callable[[], bool],
) -> None:
    end_at: float | None = None
    while True:
        try:
            if previous.salvaged:
                # Some commands are known only from the damaged part. If this keeper dies, the next
                # keeper reads that part again only if the journal still ends where the part was cut
                # off. So write these commands to a snapshot before any other record.
                writer.rotate()
                previous.salvaged = False
            recovery.run()
        except NoRoomError:
            logger.warning("no_room", detail="the ends of earlier commands wait for disk space")
        except OSError as error:
            if not is_resource_shortage(error):
                raise
            recovery.use_fewer_descriptors()
            logger.warning("no_room", detail=f"the ends of earlier commands wait: {error}")
        else:
            return
        if should_end():
            if end_at is None:
                end_at = time.monotonic() + _HELD_OUTPUT_SECONDS
            # The processes that could write to these pipes are dead. If this keeper ends too, the
            # output in the pipes is lost.
            if not recovery.holds_output() or time.monotonic() >= end_at:
                raise RecoveryEndedError
        time.sleep(_RETRY_SECONDS)


class Recovery:
    """Ends the commands that a dead keeper left open.

    Args:
        previous: the dead keeper, as the journal describes it.
        writer: writes the rest of the output and the last records to the journal.
        identity: the identity of the keeper that runs now.
        should_end: returns whether this keeper was asked to end.
    """

    def __init__(
        self,
        previous: PreviousKeeper,
        writer: JournalWriter,
        identity: Identity,
        should_end: Callable[[], bool],
    ) -> None:
        self._previous = previous
        self._writer = writer
        self._identity = identity
        self._should_end = should_end
        self._ownership = Ownership(previous.open.values, previous.cgroup)
        self._max_batch = _MAX_BATCH
        # The ids of the commands whose processes may be alive; None before the first call of `run`.
        self._unended: list[str] | None = None
        self._unkillable: dict[str, list[Unkillable]] = {}
        # By the inode of each pipe: the pipe's command, 1 for stdout or 2 for stderr, and a
        # descriptor of the read end. The descriptors stay open while the disk is full. After the
        # last process with the write end has died, the kernel keeps the bytes in a pipe only as
        # long as the read end is open.
        self._readers: dict[int, tuple[KeptCommand, int, int]] = {}

    def run(self) -> None:
        """Kill the surviving processes, rescue their output, and append each command's last record.

        Raises:
            NoRoomError: the disk is full. Nothing is lost; call this method again later.
            RecoveryEndedError: this keeper was asked to end.
            OSError: there are too few descriptors; call `use_fewer_descriptors`, then this method.
        """
        dead = self._previous.identity
        if dead is None:
            return
        reached("recovery.read")
        if dead.is_alive():
            # The previous keeper is alive, so this data directory is a copy of that keeper's
            # directory. The scripts belong to that keeper.
            self._append_ends("the data directory is a copy: its keeper runs on elsewhere")
            return
        if dead.shares_process_ids(self._identity):
            # No process is killed if the previous keeper had another pid namespace: this keeper
            # cannot tell whether that keeper has died, or is alive and this data directory is a
            # copy. If that keeper has died and was the first process of its namespace, the kernel
            # has killed all other processes of the namespace.
            self._end_survivors()
            if self._previous.cgroup:
                remove_keeper_cgroups(self._previous.cgroup)
        self._append_ends("its keeper died while it ran; its output may be incomplete")

    def use_fewer_descriptors(self) -> None:
        """Halve the number of commands whose pipes may be open at a time."""
        self._max_batch = max(1, self._max_batch // 2)

    def holds_output(self) -> bool:
        """Return whether there is output that only this keeper can still read."""
        return any(bytes_waiting(descriptor) > 0 for _, _, descriptor in self._readers.values())

    def close(self) -> None:
        """Close all pipes."""
        for _, _, descriptor in self._readers.values():
            os.close(descriptor)
        self._readers.clear()

    def _end_survivors(self) -> None:
        """Kill the processes of all open commands, in batches small enough for the descriptors."""
        if self._unended is None:
            self._unended = list(self._previous.open)
        while self._unended:
            if not self._readers and self._should_end():
                raise RecoveryEndedError
            batch = self._unended[: self._batch_size()]
            self._end_batch(batch)
            del self._unended[: len(batch)]

    def _batch_size(self) -> int:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        used = len(os.listdir("/proc/self/fd")) - len(self._readers)
        return max(1, min(self._max_batch, (limit - used - _SPARE_DESCRIPTORS) // 2))

    def _end_batch(self, batch: list[str]) -> None:
        owners: dict[int, str] = {}

        def look() -> Found:
            owners.clear()
            processes: list[ProcessStat] = []
            for command_id, members in self._survivors(set(batch)).items():
                self._ownership.note(command_id, members.values())
                for pid, stat in members.items():
                    self._open_pipes(self._previous.open[command_id], pid)
                    owners[pid] = command_id
                    processes.append(stat)
            return Found(processes, self._kill_groups(batch))

        def rescue_output() -> None:
            if owners:
                reached("recovery.killed")
            self._drain()

        result = kill_until_quiet(
            look,
            seconds=_SURVIVORS_SECONDS,
            pause_seconds=_STEP_SECONDS,
            after_round=rescue_output,
        )
        self._drain()
        for process in result.forbidden:
            self._unkillable.setdefault(owners[process.pid], []).append(process)
        self.close()

    def _survivors(self, batch: set[str]) -> dict[str, dict[int, ProcessStat]]:
        """Return the living processes of some commands, by command id and process id.

        A process belongs to a command in four cases: it is in the session of the command's script,
        it is in the command's cgroup, it has the command's id in its environment, or it descends
        from such a process.
        """
        found: dict[str, dict[int, ProcessStat]] = {}
        self._ownership.refresh()
        for pid in all_pids():
            stat = process_stat(pid)
            if stat is None or is_dead(stat):
                continue
            command_id = self._owner(stat)
            if command_id in batch:
                found.setdefault(command_id, {})[pid] = stat
        for members in found.values():
            add_descendants(members)
            # This keeper is not killed, even if a script has started it.
            members.pop(self._identity.pid, None)
        return found

    def _owner(self, stat: ProcessStat) -> str | None:
        for _ in range(_EXEC_ATTEMPTS):
            try:
                return self._ownership.owner(stat)
            except UndecidedError:
                # The process is in the middle of an exec, so it has no environment for a moment.
                # Most such processes belong to no script, so the keeper waits only a short time.
                time.sleep(_EXEC_ATTEMPT_SECONDS)
        return None

    def _open_pipes(self, command: KeptCommand, pid: int) -> None:
        """Open the read ends of a command's pipes through the descriptors of a living process."""
        with ignore_vanished(), file_access_as_owner(pid):
            for name in os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{name}"
                with ignore_vanished():
                    target = os.readlink(path)
                    for stream, inode in enumerate(command.pipes, start=1):
                        if target == f"pipe:[{inode}]" and inode not in self._readers:
                            reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                            self._readers[inode] = (command, stream, reader)

    def _kill_groups(self, batch: list[str]) -> bool:
        """Kill the process groups and cgroups of commands; return whether the cgroups are empty.

        The kernel kills all processes of a group in one step. This matters if each process of a
        script forks a new one and exits: the keeper finds such a process too late to kill it alone.
        A cgroup also counts as empty if it has a process that the keeper may not signal.
        """
        are_empty = True
        own = own_cgroup()
        for command_id in batch:
            command = self._previous.open[command_id]
            # If this script has started this keeper, the keeper is in the script's group. Then the
            # group is not killed, and the other processes are killed one by one.
            if command.pid not in (None, os.getpgrp()) and owns_session(command):
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(command.pid, signal.SIGKILL)
            if self._previous.cgroup is None:
                continue
            for cgroup in command_cgroups(self._previous.cgroup, command_id):
                if not f"{own}/".startswith(f"{cgroup}/"):
                    result = kill_cgroup(cgroup)
                    are_empty = are_empty and (result.empty or bool(result.forbidden))
        return are_empty

    def _drain(self) -> None:
        """Move the bytes in the pipes to the journal.

        Raises:
            NoRoomError: the disk is full.
        """
        for command, stream, descriptor in self._readers.values():
            # The number of rounds is limited, because a process that belongs to no command may
            # write to the pipe for ever. The keeper's start must not wait for such a process.
            for _ in range(_DRAIN_ROUNDS):
                waiting = bytes_waiting(descriptor)
                if command.limit is not None:
                    # Bytes beyond the limit are not moved. If the script printed more than its
                    # limit, the dead keeper may have discarded some output. Then the bytes in the
                    # pipe do not follow directly after the output in the journal.
                    waiting = min(waiting, command.limit - command.position)
                if waiting <= 0:
                    break
                moved = self._writer.splice(
                    descriptor, waiting, UUID(command.id).bytes, stream, command.position
                )
                command.position += moved

    def _append_ends(self, reason: str) -> None:
        """Append the last record of each open command.

        Args:
            reason: why the commands without an exit in the journal are lost, as text for users.

        Raises:
            NoRoomError: the disk is full.
        """
        for command in list(self._previous.open.values()):
            unkillable = self._unkillable.get(command.id, ())
            if command.exited and not unkillable:
                kind = Kind.CLOSED
                fields: dict[str, Any] = {
                    "cause": command.life.cause,
                    "leftovers_killed": command.leftovers_killed,
                    "discarded_bytes": command.discarded,
                    "interrupted": True,
                }
            else:
                kind, fields = Kind.LOST, {"reason": "; ".join([reason, *map(_named, unkillable)])}
            command_id = UUID(command.id).bytes
            self._writer.append(kind, command_id, fields, command.position, now_us())
            del self._previous.open[command.id]
            reached("recovery.told")
            logger.warning(f"command_{kind.name.lower()}", command_id=command.id)


def _named(process: Unkillable) -> str:
    return (
        f"process {process.pid} of uid {process.uid} is still alive, "
        "since the keeper is not permitted to signal it"
    )
