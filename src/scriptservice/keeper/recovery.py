"""Ends the scripts of a previous keeper that died; a keeper does this at its start.

The journal tells which commands were open (``previous_keeper``). Walks through /proc find the
processes that survived. The keeper opens the read ends of their pipes, kills the processes, and
moves the output that is still in the pipes to the journal. Then each open command gets its last
record: CLOSED if the command's exit is in the journal, else LOST.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

from scriptservice.keeper.journal.journal_writer import JournalWriter, NoRoomError
from scriptservice.keeper.previous_keeper import (
    JournaledCommand,
    PreviousKeeper,
    read_previous_keeper,
)
from scriptservice.keeper.spawn.spawner import COMMAND_ID_VARIABLE
from scriptservice.keeper.system.identity import Identity
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.system.linux import (
    ProcessStat,
    all_pids,
    bytes_waiting,
    child_pids,
    environment_value,
    file_access_as_owner,
    process_environment,
    process_stat,
    signal_process,
)
from scriptservice.keeper.tree.cgroup import cgroup_pids, kill_cgroup, remove_cgroup
from scriptservice.protocol.clock import now_us
from scriptservice.protocol.fault_points import reached
from scriptservice.protocol.journal_format import Kind

_STEP_SECONDS = 0.02
_QUIET_ROUNDS = 3
_EXEC_ATTEMPTS = 50
_EXEC_ATTEMPT_SECONDS = 0.001
_DRAIN_ROUNDS = 256
# A process that survives SIGKILL for this long is waiting in the kernel for a device.
_SURVIVORS_SECONDS = 10


def recover(
    directory: str,
    identity: Identity,
    cgroup: str | None,
    *,
    reserve_bytes: int,
    snapshot: Callable[[], dict[str, Any]],
) -> JournalWriter:
    """Open a repaired journal, and end the commands that the previous keeper left open.

    While the disk is full, this function waits for room: no script may start before the end of
    every earlier command is in the journal.

    Args:
        directory: the directory of the journal's segments.
        identity: the identity of the keeper that runs now.
        cgroup: the directory of that keeper's cgroups, None if it uses no cgroups.
        reserve_bytes: see `JournalWriter`.
        snapshot: see `JournalWriter`; not called before the recovery is complete.

    Returns:
        The journal's writer.

    Raises:
        NoRoomError: the disk has no room for the journal's first segment.
        OSError: the journal cannot be read or written.
    """
    previous = read_previous_keeper(directory)
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
    _recover_when_room(previous, writer, identity)
    recovered = True
    return writer


def _recover_when_room(previous: PreviousKeeper, writer: JournalWriter, identity: Identity) -> None:
    recovery = Recovery(previous, writer, identity)
    while True:
        try:
            if previous.salvaged:
                # If this keeper dies, the next start reads the damaged part again only if the
                # journal still ends where that part was cut off. So the commands from the damaged
                # part must be in a snapshot before any other record is appended.
                writer.rotate()
                previous.salvaged = False
            recovery.run()
        except NoRoomError:
            logger.warning("no_room", detail="the ends of earlier commands wait for disk space")
            time.sleep(1)
        else:
            return


class Recovery:
    """Ends the commands that a dead keeper left open.

    Args:
        previous: the dead keeper, as the journal describes it.
        writer: writes the rest of the output and the last records to the journal.
        identity: the identity of the keeper that runs now.
    """

    def __init__(self, previous: PreviousKeeper, writer: JournalWriter, identity: Identity) -> None:
        self._previous = previous
        self._writer = writer
        self._identity = identity
        # This maps the inode of each pipe to the pipe's command, to 1 for stdout or 2 for stderr,
        # and to a descriptor of the read end. While the disk is full these descriptors stay open.
        # After the last process with the write end has died, the kernel keeps the bytes in the pipe
        # only as long as the read end is open.
        self._readers: dict[int, tuple[JournaledCommand, int, int]] = {}

    def run(self) -> None:
        """Kill the surviving processes, rescue their output, and append each command's last record.

        Raises:
            NoRoomError: the disk is full. Nothing is lost; call this method again later.
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
            # If the previous keeper had another pid namespace, no process is killed. Nobody can
            # tell from here whether that keeper has died, or whether it lives and this data
            # directory is a copy. If that keeper has died and was the first process of its
            # namespace, the kernel has killed all other processes of the namespace.
            self._end_survivors()
            if self._previous.cgroup:
                remove_cgroup(self._previous.cgroup)
        self._append_ends("its keeper died while it ran; its output may be incomplete")

    def _end_survivors(self) -> None:
        quiet = 0
        deadline = time.monotonic() + _SURVIVORS_SECONDS
        while quiet < _QUIET_ROUNDS and time.monotonic() < deadline:
            survivors = self._survivors()
            for command_id, pids in survivors.items():
                for pid in pids:
                    self._open_pipes(self._previous.open[command_id], pid)
            cgroups_empty = self._kill(survivors)
            if survivors:
                reached("recovery.killed")
            self._drain()
            quiet = quiet + 1 if cgroups_empty and not survivors else 0
            time.sleep(_STEP_SECONDS)
        self._drain()
        for _, _, descriptor in self._readers.values():
            os.close(descriptor)
        self._readers.clear()

    def _survivors(self) -> dict[str, dict[int, int]]:
        """Return the living processes of each open command.

        A process belongs to a command if it is in the session of the command's script, has the
        command's id in its environment, is in the command's cgroup, or descends from such a
        process.

        Returns:
            By command id: the start of each process by its process id, in clock ticks from boot.
        """
        found: dict[str, dict[int, int]] = {}
        for pid in all_pids():
            stat = process_stat(pid)
            if stat is None or stat.dead or pid == self._identity.pid:
                continue
            if command_id := self._command_by_environment(pid) or self._command_by_session(stat):
                found.setdefault(command_id, {})[pid] = stat.start_ticks
        for command_id in self._previous.open if self._previous.cgroup else ():
            for pid in cgroup_pids(f"{self._previous.cgroup}/{command_id}"):
                if (stat := process_stat(pid)) and not stat.dead:
                    found.setdefault(command_id, {})[pid] = stat.start_ticks
        for members in found.values():
            _add_descendants(members)
        return found

    def _command_by_environment(self, pid: int) -> str | None:
        found = process_environment(pid)
        for _ in range(_EXEC_ATTEMPTS):
            if found is not None:
                break
            # The process is in the middle of an exec, so it has no environment for a moment. Most
            # such processes belong to no script, so the keeper does not wait long for any of them.
            time.sleep(_EXEC_ATTEMPT_SECONDS)
            found = process_environment(pid)
        value = environment_value(found or b"", COMMAND_ID_VARIABLE.encode())
        command_id = value.decode(errors="replace") if value else None
        return command_id if command_id in self._previous.open else None

    def _command_by_session(self, stat: ProcessStat) -> str | None:
        """Return the id of the command whose script leads, or led, the session of a process."""
        for command in self._previous.open.values():
            if command.pid == stat.session and self._owns_session(command):
                return command.id
        return None

    def _owns_session(self, command: JournaledCommand) -> bool:
        """Return whether the session and group with a script's pid still belong to the script."""
        dead = self._previous.identity
        if dead is None or command.pid is None or not dead.shares_process_ids(self._identity):
            return False
        # The kernel does not reuse the id of a session that has members. If another process has the
        # script's pid now, the script's session had no members left, and any session that has this
        # id now is a new session.
        leader = process_stat(command.pid)
        return leader is None or leader.start_ticks == command.start_ticks

    def _open_pipes(self, command: JournaledCommand, pid: int) -> None:
        """Open the read ends of a command's pipes through the descriptors of a survivor."""
        with suppress(OSError), file_access_as_owner(pid):
            for name in os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{name}"
                with suppress(OSError):
                    target = os.readlink(path)
                    for stream, inode in enumerate(command.pipes, start=1):
                        if target == f"pipe:[{inode}]" and inode not in self._readers:
                            reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                            self._readers[inode] = (command, stream, reader)

    def _kill(self, survivors: dict[str, dict[int, int]]) -> bool:
        """Send SIGKILL to all survivors; return whether every cgroup is empty."""
        for pids in survivors.values():
            for pid, start_ticks in pids.items():
                signal_process(pid, start_ticks, signal.SIGKILL)
        for command in self._previous.open.values():
            if command.pid is not None and self._owns_session(command):
                # Kill the whole group at once. If each process forks a new process and exits, the
                # keeper finds each of these processes too late to kill it alone.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(command.pid, signal.SIGKILL)
        if self._previous.cgroup is None:
            return True
        emptied = [kill_cgroup(f"{self._previous.cgroup}/{each}") for each in self._previous.open]
        return all(emptied)

    def _drain(self) -> None:
        """Move the bytes in the pipes to the journal.

        Raises:
            NoRoomError: the disk is full.
        """
        for command, stream, descriptor in self._readers.values():
            # The number of rounds is limited. Otherwise a process that belongs to no command and
            # still writes to the pipe could delay the start for ever.
            for _ in range(_DRAIN_ROUNDS):
                waiting = bytes_waiting(descriptor)
                if command.output_limit_bytes is not None:
                    # Bytes beyond the limit are not moved. If the script printed more than its
                    # limit, the dead keeper may have discarded some output. Then the bytes in the
                    # pipe do not follow directly after the output in the journal.
                    waiting = min(waiting, command.output_limit_bytes - command.position)
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
            if command.exited:
                kind = Kind.CLOSED
                fields: dict[str, Any] = {
                    "cause": command.cause,
                    "leftovers_killed": command.leftovers_killed,
                    "discarded_bytes": command.discarded_bytes,
                    "interrupted": True,
                }
            else:
                kind, fields = Kind.LOST, {"reason": reason}
            command_id = UUID(command.id).bytes
            self._writer.append(kind, command_id, fields, command.position, now_us())
            del self._previous.open[command.id]
            reached("recovery.told")
            logger.warning(f"command_{kind.name.lower()}", command_id=command.id)


def _add_descendants(members: dict[int, int]) -> None:
    """Add the living descendants of some processes.

    Args:
        members: the start of each process by its process id, in clock ticks from boot; the
            descendants are added here.
    """
    frontier = list(members)
    while frontier:
        for child in child_pids(frontier.pop()):
            stat = process_stat(child)
            if stat and not stat.dead and child not in members:
                members[child] = stat.start_ticks
                frontier.append(child)
