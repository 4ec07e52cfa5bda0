"""What a keeper does at its start about the scripts of a previous keeper that died.

The journal says which commands were open (``previous_keeper``). One walk through /proc finds the
processes that survived. Output that nobody had read is taken out of their pipes, then they are
killed, and each open command gets its last record: CLOSED if its exit is in the journal, else LOST.
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
# A process that has not died of SIGKILL by then waits in the kernel for a device.
_SURVIVORS_SECONDS = 10


def recover(
    directory: str,
    identity: Identity,
    cgroup: str | None,
    *,
    reserve_bytes: int,
    snapshot: Callable[[], dict[str, Any]],
) -> JournalWriter:
    """Open a repaired journal, and end what the previous keeper left.

    While the disk is full this waits for room, since nothing new may start before the end of every
    earlier command is in the journal.

    Args:
        directory: of the journal's segments.
        identity: of the keeper that runs now.
        cgroup: the directory of its cgroups, None if it has none.
        reserve_bytes: see `JournalWriter`.
        snapshot: see `JournalWriter`; first called after the recovery.

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
        # If this keeper dies as well, the next one must still find what the dead one left.
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
                # A damaged part is read only while no record stands behind it, so its commands
                # must be in a snapshot before anything else is appended.
                writer.rotate()
                previous.salvaged = False
            recovery.run()
        except NoRoomError:
            logger.warning("no_room", detail="the ends of earlier commands wait for disk space")
            time.sleep(1)
        else:
            return


class Recovery:
    """Ends what a dead keeper left.

    Args:
        previous: the dead keeper, as the journal describes it.
        writer: the journal, for the rest of the output and the last records.
        identity: of the keeper that runs now.
    """

    def __init__(self, previous: PreviousKeeper, writer: JournalWriter, identity: Identity) -> None:
        self._previous = previous
        self._writer = writer
        self._identity = identity
        # By inode. These stay open when the disk is full: once a pipe's writers are dead, only
        # its reader keeps what is in it.
        self._readers: dict[int, tuple[JournaledCommand, int, int]] = {}

    def run(self) -> None:
        """Rescue output, kill survivors, and append how each open command ended.

        Raises:
            NoRoomError: the disk is full; call again later, nothing is lost.
        """
        dead = self._previous.identity
        if dead is None:
            return
        reached("recovery.read")
        if dead.is_alive():
            # This is a copy of the directory of a keeper that lives. It owns the scripts.
            self._append_ends("the data directory is a copy: its keeper runs on elsewhere")
            return
        if dead.shares_process_ids(self._identity):
            # From another pid namespace nobody can tell whether the keeper died, or whether this
            # directory is a copy and the keeper lives. If the keeper was the first process of its
            # namespace, all others there died with it.
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
        """Return the living processes of each open command: process id and start.

        They are known by the script's session, by the command's id in their environment, by
        cgroup, and by descent from any of these.
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
            # The process is in the middle of an exec. As a rule it is not one of ours.
            time.sleep(_EXEC_ATTEMPT_SECONDS)
            found = process_environment(pid)
        value = environment_value(found or b"", COMMAND_ID_VARIABLE.encode())
        command_id = value.decode(errors="replace") if value else None
        return command_id if command_id in self._previous.open else None

    def _command_by_session(self, stat: ProcessStat) -> str | None:
        """Return the command whose script leads, or led, a process's session."""
        for command in self._previous.open.values():
            if command.pid == stat.session and self._owns_session(command):
                return command.id
        return None

    def _owns_session(self, command: JournaledCommand) -> bool:
        """Return whether the session and group with the id of a command's script are its own."""
        dead = self._previous.identity
        if dead is None or command.pid is None or not dead.shares_process_ids(self._identity):
            return False
        # The kernel does not reuse the id of a session that has members. If the process with this
        # id is not the script, the script's session had no member left and this is another one.
        leader = process_stat(command.pid)
        return leader is None or leader.start_ticks == command.start_ticks

    def _open_pipes(self, command: JournaledCommand, pid: int) -> None:
        """Open the read ends of a command's pipes again, through a survivor's descriptors."""
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
                # The whole group at once: in a chain of processes that fork and exit, each is
                # gone before it is looked at.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(command.pid, signal.SIGKILL)
        if self._previous.cgroup is None:
            return True
        emptied = [kill_cgroup(f"{self._previous.cgroup}/{each}") for each in self._previous.open]
        return all(emptied)

    def _drain(self) -> None:
        """Move what is in the pipes to the journal.

        Raises:
            NoRoomError: the disk is full.
        """
        for command, stream, descriptor in self._readers.values():
            # Bounded: a process of somebody else's that still writes must not hold up the start.
            for _ in range(_DRAIN_ROUNDS):
                waiting = bytes_waiting(descriptor)
                if command.output_limit_bytes is not None:
                    # Beyond the limit the keeper had discarded some output, so what is in the pipe
                    # does not follow what is in the journal.
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
            reason: why a command without an exit is lost; for its reader.

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
    """Add the living descendants of some processes to them, each with its start."""
    frontier = list(members)
    while frontier:
        for child in child_pids(frontier.pop()):
            stat = process_stat(child)
            if stat and not stat.dead and child not in members:
                members[child] = stat.start_ticks
                frontier.append(child)
