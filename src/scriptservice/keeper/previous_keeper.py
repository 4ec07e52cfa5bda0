"""The previous keeper as the journal describes it: its identity and its open commands.

When a keeper starts, ``recovery`` calls `read_previous_keeper` and then ends the open commands.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from scriptservice.keeper.journal.journal_repair import damaged_path, intact_records, scan
from scriptservice.keeper.life.kept_command import KeptCommand
from scriptservice.keeper.system.identity import Identity
from scriptservice.protocol.journal_format import (
    HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Kind,
    Record,
    segment_bases,
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
    open: dict[str, KeptCommand] = field(default_factory=dict)
    salvaged: bool = False


def read_previous_keeper(
    directory: str, should_end: Callable[[], bool] = lambda: False
) -> PreviousKeeper:
    """Return what the segments of a repaired journal say about the keeper that wrote them.

    Args:
        directory: the directory of the journal's segments.
        should_end: returns whether the keeper was asked to end. If it was, this function stops
            reading, and the result is incomplete.

    Raises:
        OSError: a segment cannot be read.
    """
    previous = PreviousKeeper()
    start = 0
    for base in segment_bases(directory):
        if should_end():
            return previous
        start = base + SEGMENT_HEADER_BYTES
        for record in scan(directory, base):
            _apply(previous, record, record.end - start - HEADER_BYTES)
            start = record.end
    _salvage(previous, damaged_path(directory, start))
    return previous


def _salvage(previous: PreviousKeeper, path: str) -> None:
    """Add the open commands whose STARTED record is in the damaged part of the journal.

    The repair of the journal has just moved this part to a separate file. The processes of these
    commands must be killed. The output in their pipes is not read, since the journal does not tell
    how much output came before it.

    Args:
        previous: the keeper to which the commands are added.
        path: the file with the damaged part; it exists only if there was damage.
    """
    if not os.path.exists(path):
        return
    found: dict[str, KeptCommand] = {}
    for record in intact_records(path):
        command_id = str(UUID(bytes=record.command_id))
        if record.kind == Kind.STARTED:
            fields = record.fields()
            found[command_id] = KeptCommand(
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
        previous.open = {entry["id"]: KeptCommand.from_snapshot(entry) for entry in fields["open"]}
        return
    command_id = str(UUID(bytes=record.command_id))
    if record.kind in (Kind.CLOSED, Kind.LOST, Kind.REFUSED):
        previous.open.pop(command_id, None)
        return
    command = previous.open.setdefault(command_id, KeptCommand(command_id))
    command.position = record.position
    if record.kind == Kind.OUTPUT:
        command.position += length
    elif record.kind == Kind.STARTED:
        command.take_process(record.fields())
    elif record.kind == Kind.DISCARDED:
        command.discarded = record.fields()["discarded_bytes"]
    elif record.kind == Kind.STOPPING:
        command.mark_stopping(record.fields()["cause"])
    elif record.kind == Kind.EXITED:
        command.mark_exited()
