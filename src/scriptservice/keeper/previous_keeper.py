"""What the journal says about the previous keeper: who it was, and which commands it left open.

`read_previous_keeper` reads it at a start, and ``recovery`` acts on it.
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
        id: its UUID.
        pid: process id of its script, None if the journal has no start of it.
        start_ticks: start of that process, in clock ticks from boot.
        pipes: inode numbers of its stdout and stderr.
        position: length of its merged output so far, in bytes.
        output_limit_bytes: how much output is kept, None for all.
        exited: whether the journal has the exit of the script's own process.
        cause: of the stop that had begun, None if none had.
        leftovers_killed: how many, as far as the journal says.
        discarded_bytes: as far as the journal says.
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
        """Return its entry in a SNAPSHOT record, as `RunningCommand.snapshot` does."""
        return asdict(self)

    @classmethod
    def from_snapshot(cls, entry: dict[str, Any]) -> "JournaledCommand":
        """Return the command of an entry in a SNAPSHOT record."""
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
        identity: None for a new journal.
        cgroup: the directory of its cgroups, None if it had none.
        open: commands that had not ended, by id.
        salvaged: whether some of these are known only from a damaged part that was set aside.
    """

    identity: Identity | None = None
    cgroup: str | None = None
    open: dict[str, JournaledCommand] = field(default_factory=dict)
    salvaged: bool = False


def read_previous_keeper(directory: str) -> PreviousKeeper:
    """Return what the segments of a repaired journal say about the keeper that wrote them.

    Args:
        directory: of the journal's segments.

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
    """Add the commands that were started behind the damage at which the journal was just cut.

    Their processes must be killed. Their output is left unread: nobody can tell what precedes it.
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
        previous: what the records before it say.
        record: the record.
        length: of its payload, in bytes.
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
