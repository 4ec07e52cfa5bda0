"""What a keeper does that starts after another one's death: rescue, end, and tell honestly.

The journal says what was open. One look through /proc finds who survived; what they had printed
and nobody read is taken out of their pipes; then they are killed, and each open command is closed:
by its own exit if that was on record, else as lost.
"""

import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from scriptservice.keeper.journal.journal_repair import damaged_path, intact_records, scan
from scriptservice.keeper.journal.journal_writer import JournalWriter, NoRoomError
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
from scriptservice.protocol.journal_format import (
    HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Kind,
    Record,
    segment_bases,
)

_STEP_SECONDS = 0.02
_QUIET_ROUNDS = 3
_EXEC_LOOKS = 50
_EXEC_LOOK_SECONDS = 0.001
_DRAIN_ROUNDS = 256
_SURVIVORS_SECONDS = 10  # who does not die of SIGKILL until then waits in the kernel for a device


@dataclass(slots=True)
class JournaledCommand:
    """A command that had not ended when its keeper died.

    Attributes:
        id: its UUID.
        pid: of its script, None if its start was not on record.
        start_ticks: of that process.
        pipes: inode numbers of its stdout and stderr.
        position: its merged output so far.
        output_limit_bytes: how much is kept, None for all.
        exited: whether the script's own exit is on record.
        cause: of the stop that had begun, None if none had.
        leftovers_killed: as far as that is on record.
        discarded_bytes: as far as that is on record.
    """

    id: str
    pid: int | None = None
    start_ticks: int = 0
    pipes: tuple[int, int] = (0, 0)
    position: int = 0
    output_limit_bytes: int | None = None
    exited: bool = False
    cause: str | None = None
    leftovers_killed: int = 0
    discarded_bytes: int = 0


@dataclass(slots=True)
class PreviousKeeper:
    """What the journal says about the keepers before this one.

    Attributes:
        identity: of the last, None for a new journal.
        cgroup: the directory of its cgroups, None if it had none.
        open: commands that had not ended, by id.
        salvaged: whether some of these are known only by what was set aside as damaged.
    """

    identity: Identity | None = None
    cgroup: str | None = None
    open: dict[str, JournaledCommand] = field(default_factory=dict)
    salvaged: bool = False


def snapshot_of(command: JournaledCommand) -> dict[str, Any]:
    """Return what `RunningCommand.snapshot` would, of a command that a dead keeper left."""
    return asdict(command)


def read_previous_keeper(directory: str) -> PreviousKeeper:
    """Return what the segments of a repaired journal say.

    Args:
        directory: where they are.
    """
    past = PreviousKeeper()
    start = 0
    for base in segment_bases(directory):
        start = base + SEGMENT_HEADER_BYTES
        for record in scan(directory, base):
            _replay(past, record, record.end - start - HEADER_BYTES)
            start = record.end
    _salvage(past, damaged_path(directory, start))
    return past


def _salvage(past: PreviousKeeper, path: str) -> None:
    """Learn who was started behind the damage at which the journal has just been cut.

    They are to be ended. Of their output nobody can tell any more what precedes it, so it is left.
    """
    if not os.path.exists(path):
        return
    found: dict[str, JournaledCommand] = {}
    for record in intact_records(path):
        command = str(UUID(bytes=record.command_id))
        if record.kind == Kind.STARTED:
            fields = record.fields()
            found[command] = JournaledCommand(
                command, pid=fields["pid"], start_ticks=fields["start_ticks"]
            )
        else:
            found.pop(command, None)
    past.salvaged = bool(found)
    past.open = found | past.open


def _replay(past: PreviousKeeper, record: Record, length: int) -> None:
    if record.kind == Kind.KEEPER:
        fields = record.fields()
        past.identity = Identity.from_fields(fields["identity"])
        past.cgroup = fields["cgroup"]
        return
    if record.kind == Kind.SNAPSHOT:
        fields = record.fields()
        past.identity = Identity.from_fields(fields["identity"])
        past.cgroup = fields["cgroup"]
        past.open = {entry["id"]: _from_snapshot(entry) for entry in fields["open"]}
        return
    command = str(UUID(bytes=record.command_id))
    if record.kind in (Kind.CLOSED, Kind.LOST, Kind.REFUSED):
        past.open.pop(command, None)
        return
    state = past.open.setdefault(command, JournaledCommand(command))
    state.position = record.position
    if record.kind == Kind.OUTPUT:
        state.position += length
    elif record.kind == Kind.STARTED:
        fields = record.fields()
        state.pid, state.start_ticks = fields["pid"], fields["start_ticks"]
        state.pipes = (fields["pipes"][0], fields["pipes"][1])
        state.output_limit_bytes = fields.get("output_limit_bytes")
    elif record.kind == Kind.DISCARDED:
        state.discarded_bytes = record.fields()["discarded_bytes"]
    elif record.kind == Kind.STOPPING:
        state.cause = record.fields()["cause"]
    elif record.kind == Kind.EXITED:
        state.exited = True


def _from_snapshot(entry: dict[str, Any]) -> JournaledCommand:
    return JournaledCommand(
        id=entry["id"],
        pid=entry["pid"],
        start_ticks=entry["start_ticks"],
        pipes=(entry["pipes"][0], entry["pipes"][1]),
        position=entry["position"],
        output_limit_bytes=entry.get("output_limit_bytes"),
        exited=entry["exited"],
        cause=entry["cause"],
        leftovers_killed=entry["leftovers_killed"],
        discarded_bytes=entry["discarded_bytes"],
    )


class Recovery:
    """Ends what a dead keeper left.

    Args:
        past: what the journal says.
        writer: the journal; what is found goes there.
        mine: identity of the keeper that runs now.
    """

    def __init__(self, past: PreviousKeeper, writer: JournalWriter, mine: Identity) -> None:
        self._past = past
        self._writer = writer
        self._mine = mine
        # Kept when the disk is full: once its writers are dead, a pipe lives by its reader alone.
        self._readers: dict[int, tuple[JournaledCommand, int, int]] = {}

    def run(self) -> None:
        """Rescue output, kill survivors, and record how each open command ended.

        Raises:
            NoRoomError: the disk is full; nothing is lost by trying again.
        """
        old = self._past.identity
        if old is None:
            return
        reached("recovery.read")
        if old.is_alive():
            # A copy of the directory of a keeper that lives: its scripts are not ours to touch.
            reason = "the data directory is a copy: its keeper runs on elsewhere"
            self._tell(reason)
            return
        if old.shares_process_ids(self._mine):
            # In another pid namespace nobody can tell whether it died, or whether this directory
            # is a copy and it lives; and if it was the first process there, all died with it.
            self._end_survivors()
            if self._past.cgroup:
                remove_cgroup(self._past.cgroup)
        self._tell("its keeper died while it ran; its output may be incomplete")

    def _end_survivors(self) -> None:
        quiet = 0
        deadline = time.monotonic() + _SURVIVORS_SECONDS
        while quiet < _QUIET_ROUNDS and time.monotonic() < deadline:
            survivors = self._survivors()
            for command, pids in survivors.items():
                for pid in pids:
                    self._hold_pipes(self._past.open[command], pid)
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

        Known by the script's own session, by the marker in the environment, by cgroup, and by
        descent from any of these.
        """
        found: dict[str, dict[int, int]] = {}
        for pid in all_pids():
            stat = process_stat(pid)
            if stat is None or stat.dead or pid == self._mine.pid:
                continue
            if command := self._marked(pid) or self._in_session(stat):
                found.setdefault(command, {})[pid] = stat.start_ticks
        for command in self._past.open if self._past.cgroup else ():
            for pid in cgroup_pids(f"{self._past.cgroup}/{command}"):
                if (stat := process_stat(pid)) and not stat.dead:
                    found.setdefault(command, {})[pid] = stat.start_ticks
        for members in found.values():
            _add_descendants(members)
        return found

    def _marked(self, pid: int) -> str | None:
        found = process_environment(pid)
        for _ in range(_EXEC_LOOKS):
            if found is not None:
                break
            time.sleep(_EXEC_LOOK_SECONDS)  # it is in the midst of an exec, as a rule a stranger
            found = process_environment(pid)
        value = environment_value(found or b"", COMMAND_ID_VARIABLE.encode())
        command = value.decode(errors="replace") if value else None
        return command if command in self._past.open else None

    def _in_session(self, stat: ProcessStat) -> str | None:
        """Return the command whose script leads, or led, a process's session."""
        for command in self._past.open.values():
            if command.pid == stat.session and self._leads(command):
                return command.id
        return None

    def _leads(self, command: JournaledCommand) -> bool:
        """Whether the session and the group with the id of its script can only be its own."""
        old = self._past.identity
        if old is None or command.pid is None or not old.shares_process_ids(self._mine):
            return False
        # The id of a session that has members is not given away; if its leader is another
        # process than ours was, ours had none left, and this is somebody else's.
        leader = process_stat(command.pid)
        return leader is None or leader.start_ticks == command.start_ticks

    def _hold_pipes(self, command: JournaledCommand, pid: int) -> None:
        """Open the read end of a survivor's pipes again, through the survivor."""
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
        for pids in survivors.values():
            for pid, start_ticks in pids.items():
                signal_process(pid, start_ticks, signal.SIGKILL)
        for command in self._past.open.values():
            if command.pid is not None and self._leads(command):
                # All at once: one that forks and ends for ever is gone before it is looked at.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(command.pid, signal.SIGKILL)
        if self._past.cgroup is None:
            return True
        emptied = [kill_cgroup(f"{self._past.cgroup}/{each}") for each in self._past.open]
        return all(emptied)

    def _drain(self) -> None:
        for command, stream, descriptor in self._readers.values():
            # Bounded: a stranger that still writes must not hold up the start.
            for _ in range(_DRAIN_ROUNDS):
                waiting = bytes_waiting(descriptor)
                if command.output_limit_bytes is not None:
                    # Beyond it the keeper had dropped some already: what waits does not follow.
                    waiting = min(waiting, command.output_limit_bytes - command.position)
                if waiting <= 0:
                    break
                moved = self._writer.splice(
                    descriptor, waiting, UUID(command.id).bytes, stream, command.position
                )
                command.position += moved

    def _tell(self, reason: str) -> None:
        for command in list(self._past.open.values()):
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
            self._writer.append(kind, UUID(command.id).bytes, fields, command.position, now_us())
            del self._past.open[command.id]
            reached("recovery.told")
            logger.warning(f"command_{kind.name.lower()}", command_id=command.id)


def _add_descendants(members: dict[int, int]) -> None:
    frontier = list(members)
    while frontier:
        for child in child_pids(frontier.pop()):
            stat = process_stat(child)
            if stat and not stat.dead and child not in members:
                members[child] = stat.start_ticks
                frontier.append(child)


def recover(past: PreviousKeeper, writer: JournalWriter, mine: Identity) -> None:
    """Run the recovery; while the disk is full, wait for room: nothing new may start before.

    Args:
        past: what the journal says.
        writer: the journal.
        mine: identity of the keeper that runs now.
    """
    recovery = Recovery(past, writer, mine)
    while True:
        try:
            if past.salvaged:
                # What was set aside is looked at only while nothing stands behind it.
                writer.rotate()
                past.salvaged = False
            recovery.run()
        except NoRoomError:
            logger.warning("no_room", detail="what became of earlier commands waits to be recorded")
            time.sleep(1)
        else:
            return
