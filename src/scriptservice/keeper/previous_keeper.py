"""The previous keeper as the journal describes it: its identity and its open commands.

When a keeper starts, ``recovery`` calls `read_previous_keeper` and then ends the open commands.
"""

import os
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from scriptservice.keeper.journal.journal_repair import damaged_path, intact_records, scan
from scriptservice.keeper.system.identity import Identity
from scriptservice.protocol.journal_format import (
    HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Kind,
    Record,
    segment_bases,
)


@dataclass(slots=True)
class JournaledCommand:
    """A command that had not ended when its keeper died, as the journal knows it.

    Attributes:
        id: the command's UUID.
        pid: process id of the script, None if the journal does not contain the script's start.
        start_ticks: when that process started, in clock ticks from boot.
        pipes: inode numbers of the pipes for stdout and stderr.
        position: length of the merged output in the journal, in bytes.
        output_limit_bytes: how much output is kept, None for all.
        exited: whether the journal contains the exit of the script's own process.
        cause: why the keeper had begun to stop the script, None if it had not begun to do so.
        leftovers_killed: number of background processes that the keeper had signalled after the
            script's exit, as far as the journal tells.
        discarded_bytes: how much output the keeper had discarded, as far as the journal tells.
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

    def snapshot(self) -> dict[str, Any]:
        """Return the command's entry in a SNAPSHOT record, as `RunningCommand.snapshot` does."""
        return asdict(self)

    @classmethod
    def from_snapshot(cls, entry: dict[str, Any]) -> "JournaledCommand":
        """Return the command that an entry in a SNAPSHOT record describes."""
        return cls(
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


@dataclass(slots=True)
class PreviousKeeper:
    """The last keeper that wrote the journal.

    Attributes:
        identity: the keeper's identity, None if the journal is new.
        cgroup: the directory of the keeper's cgroups, None if the keeper used no cgroups.
        open: the commands that had not ended, by id.
        salvaged: whether some of these commands are known only from a damaged part of the journal
            that was set aside.
    """

    identity: Identity | None = None
    cgroup: str | None = None
    open: dict[str, JournaledCommand] = field(default_factory=dict)
    salvaged: bool = False


def read_previous_keeper(directory: str) -> PreviousKeeper:
    """Return what the segments of a repaired journal say about the keeper that wrote them.

    Args:
        directory: the directory of the journal's segments.

    Raises:
        OSError: a segment cannot be read.
    """
    previous = PreviousKeeper()
    start = 0
    for base in segment_bases(directory):
        start = base + SEGMENT_HEADER_BYTES
        for record in scan(directory, base):
            _apply(previous, record, record.end - start - HEADER_BYTES)
            start = record.end
    _salvage(previous, damaged_path(directory, start))
    return previous


def _salvage(previous: PreviousKeeper, path: str) -> None:
    """Add the open commands whose start is recorded only in the damaged part of the journal.

    The repair of the journal has just moved this part to a separate file. The processes of these
    commands must be killed. The output in their pipes is not read, since nobody can tell which
    output came before it.

    Args:
        previous: the keeper to which the commands are added.
        path: the file with the damaged part; it exists only if there was damage.
    """
    if not os.path.exists(path):
        return
    found: dict[str, JournaledCommand] = {}
    for record in intact_records(path):
        command_id = str(UUID(bytes=record.command_id))
        if record.kind == Kind.STARTED:
            fields = record.fields()
            found[command_id] = JournaledCommand(
                command_id, pid=fields["pid"], start_ticks=fields["start_ticks"]
            )
        else:
            found.pop(command_id, None)
    previous.salvaged = bool(found)
    previous.open = found | previous.open


def _apply(previous: PreviousKeeper, record: Record, length: int) -> None:
    """Apply the next record of the journal.

    Args:
        previous: the keeper as the records before this one describe it; updated here.
        record: the record.
        length: the length of the record's payload, in bytes.
    """
    if record.kind == Kind.KEEPER:
        fields = record.fields()
        previous.identity = Identity.from_fields(fields["identity"])
        previous.cgroup = fields["cgroup"]
        return
    if record.kind == Kind.SNAPSHOT:
        fields = record.fields()
        previous.identity = Identity.from_fields(fields["identity"])
        previous.cgroup = fields["cgroup"]
        previous.open = {
            entry["id"]: JournaledCommand.from_snapshot(entry) for entry in fields["open"]
        }
        return
    command_id = str(UUID(bytes=record.command_id))
    if record.kind in (Kind.CLOSED, Kind.LOST, Kind.REFUSED):
        previous.open.pop(command_id, None)
        return
    command = previous.open.setdefault(command_id, JournaledCommand(command_id))
    command.position = record.position
    if record.kind == Kind.OUTPUT:
        command.position += length
    elif record.kind == Kind.STARTED:
        fields = record.fields()
        command.pid, command.start_ticks = fields["pid"], fields["start_ticks"]
        command.pipes = (fields["pipes"][0], fields["pipes"][1])
        command.output_limit_bytes = fields.get("output_limit_bytes")
    elif record.kind == Kind.DISCARDED:
        command.discarded_bytes = record.fields()["discarded_bytes"]
    elif record.kind == Kind.STOPPING:
        command.cause = record.fields()["cause"]
    elif record.kind == Kind.EXITED:
        command.exited = True
