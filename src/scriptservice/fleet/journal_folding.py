"""Folds the records of a keeper's journal: turns them into changes to store in the database.

A record of output becomes a part of a chunk, and any other record changes its command's status or
outcome. A script that prints much leaves many records, since a pipe holds 64 KiB; `merge_output`
merges the records of a large read first, because everything that follows costs less for few large
pieces. This module does no I/O and never waits. `Recorder` reads the journal, stores the changes
and notifies followers.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from scriptservice.fleet.notifications import StatusChange
from scriptservice.model import Outcome, Status, may_become, signal_name
from scriptservice.protocol.journal_format import Kind, Record
from scriptservice.store.queries.journal_changes import Chunk, StatusConflictError
from scriptservice.store.queries.output import CHUNK_BYTES

_INTERRUPTED = "its keeper died before its end was on record; its output may be incomplete"
INCOMPLETE_REASON = "a part of its record is missing; its output may be incomplete"
"""The reason that a command gets if the journal lacks some of the command's records."""

_AFTER_A_START = (Kind.STOPPING, Kind.DISCARDED, Kind.EXITED, Kind.CLOSED)
_CAUSES = {
    "stop": (Status.STOPPED, None),
    "shutdown": (Status.STOPPED, "the service was shut down"),
    "timeout": (Status.TIMED_OUT, "its time-out passed"),
    "limit": (Status.FAILED, "it was stopped at its output limit"),
}


@dataclass(slots=True)
class TrackedCommand:
    """An open command, as the records that were read so far describe it.

    Attributes:
        number: internal number of the command.
        id: id of the command.
        stored_status: status of the command in the database.
        status: status of the command according to the records folded so far.
        outcome: outcome of the command according to the records folded so far.
        created_at: time of submission, in microseconds since 1970 UTC.
        sent_at: when this server sent the command to the keeper, in microseconds since 1970 UTC;
            None if another server sent the command.
        given_back_at: when the keeper gave the command back, in microseconds since 1970 UTC; None
            if the keeper did not give the command back.
        missing_bytes: number of bytes of the command's output that are missing in the journal.
        unpublished: new statuses of the command, oldest first, for which no notification was made
            yet.
    """

    number: int
    id: UUID
    stored_status: Status
    status: Status
    outcome: Outcome
    created_at: int
    sent_at: int | None = None
    given_back_at: int | None = None
    missing_bytes: int = 0
    unpublished: tuple[Status, ...] = ()

    @property
    def position(self) -> int:
        """Size in bytes of the merged output that is stored or folded so far."""
        return self.outcome.stdout_bytes + self.outcome.stderr_bytes

    def transition_to(self, status: Status, **known: Any) -> None:
        """Change the status and fields of the outcome, if the transition table allows the change.

        Args:
            status: the new status. To change only the outcome, pass the current status.
            known: new values of fields of the outcome.

        Raises:
            StatusConflictError: the transition is not allowed.
        """
        if status is not self.status and not may_become(self.status, status):
            message = f"command {self.id} cannot become {status}: it is {self.status}"
            raise StatusConflictError(message)
        if status is not self.status:
            self.unpublished += (status,)
        self.status = status
        self.outcome = self.outcome._replace(**known)

    def copy(self) -> "TrackedCommand":
        """Return a copy."""
        # This method runs for each command of a batch, and `dataclasses.replace` takes five times
        # as long.
        return TrackedCommand(
            self.number,
            self.id,
            self.stored_status,
            self.status,
            self.outcome,
            self.created_at,
            self.sent_at,
            self.given_back_at,
            self.missing_bytes,
            self.unpublished,
        )

    def take_status_changes(self) -> list[StatusChange]:
        """Return the status changes since the last call."""
        statuses, self.unpublished = self.unpublished, ()
        return [
            StatusChange(self.id, status, self.outcome, self.created_at, self.sent_at)
            for status in statuses
        ]


@dataclass(slots=True)
class _OpenChunk:
    number: int
    position: int
    stream: int
    stream_offset: int
    time: int
    parts: list[bytes | memoryview]
    size: int
    record_end: int | None

    def closed(self) -> Chunk:
        return Chunk(
            self.number,
            self.position,
            self.stream,
            self.stream_offset,
            self.time,
            b"".join(self.parts),
        )


@dataclass(slots=True)
class RecordBatch:
    """The changes to store that the records of one read make.

    Attributes:
        commands: the commands as they were before these records, by the 16 bytes of their ids.
        lenient: whether to skip a record that does not fit the status of its command. If False,
            `StatusConflictError` is raised instead.
        touched: copies of the commands that these records change, by the bytes of their ids.
        chunks: complete chunks of output.
        open_chunks: the chunks to which more output may be appended, by the bytes of the ids of
            their commands.
        frames: the output of records that was compressed before, by the journal positions after the
            records; None for output for which compression does not pay.
        chunk_frames: the same for those chunks that have the output of exactly one such record, by
            their places in ``chunks``.
    """

    commands: dict[bytes, TrackedCommand]
    lenient: bool = False
    touched: dict[bytes, TrackedCommand] = field(default_factory=dict)
    chunks: list[Chunk] = field(default_factory=list)
    open_chunks: dict[bytes, _OpenChunk] = field(default_factory=dict)
    frames: Mapping[int, bytes | None] = field(default_factory=dict)
    chunk_frames: dict[int, bytes | None] = field(default_factory=dict)

    def command(self, command_id: bytes) -> TrackedCommand | None:
        """Return this batch's copy of a command; None if the database has no such open command."""
        if command_id in self.touched:
            return self.touched[command_id]
        known = self.commands.get(command_id)
        if known is None:
            return None
        return self.touched.setdefault(command_id, known.copy())

    def add_output(self, command_id: bytes, command: TrackedCommand, record: Record) -> None:
        """Append a record's output to the command's open chunk, or begin a new chunk."""
        expected = command.position + command.missing_bytes
        if record.position < expected:
            stored = expected - record.position
            if stored >= len(record.data):
                return
            # No record ends at this position, so `frames` has no entry for the shorter output.
            record = record._replace(position=expected, data=record.data[stored:], end=-1)
        command.missing_bytes += record.position - expected
        size = len(record.data)
        chunk = self.open_chunks.get(command_id)
        if chunk and (chunk.stream != record.stream or chunk.size + size > CHUNK_BYTES):
            self._close(chunk)
            chunk = None
        outcome = command.outcome
        name = "stdout_bytes" if record.stream == 1 else "stderr_bytes"
        offset = getattr(outcome, name)
        if chunk is None:
            self.open_chunks[command_id] = _OpenChunk(
                command.number,
                command.position,
                record.stream,
                offset,
                record.time_us,
                [record.data],
                size,
                record.end,
            )
        else:
            chunk.parts.append(record.data)
            chunk.size += size
            chunk.record_end = None
        command.outcome = outcome._replace(**{name: offset + size})

    def close_chunks(self) -> None:
        """Complete the chunks that are still open."""
        for chunk in self.open_chunks.values():
            self._close(chunk)
        self.open_chunks.clear()

    def _close(self, chunk: _OpenChunk) -> None:
        if chunk.record_end is not None and chunk.record_end in self.frames:
            self.chunk_frames[len(self.chunks)] = self.frames[chunk.record_end]
        self.chunks.append(chunk.closed())


def apply_record(command: TrackedCommand, record: Record, stop_reason: str | None = None) -> None:
    """Apply a record to a command.

    Args:
        command: the command; it is changed.
        record: the record.
        stop_reason: the reason that the command gets if a stop has ended it; None for the usual
            reason.

    Raises:
        StatusConflictError: the record does not fit the command's status.
    """
    if record.kind in _AFTER_A_START and command.status is Status.QUEUED:
        # The record of the command's start is missing: the command ran, but its start time is
        # unknown.
        command.transition_to(Status.RUNNING)
    match record.kind:
        case Kind.STARTED if command.status is Status.QUEUED:
            command.given_back_at = None
            command.transition_to(Status.RUNNING, started_at=record.time_us)
        case Kind.STOPPING:
            command.transition_to(Status.STOPPING)
        case Kind.DISCARDED:
            command.transition_to(
                command.status, discarded_bytes=record.fields()["discarded_bytes"]
            )
        case Kind.EXITED:
            fields = record.fields()
            code = os.waitstatus_to_exitcode(fields["status"])
            command.transition_to(
                command.status,
                exited_at=record.time_us,
                exit_code=code if code >= 0 else None,
                signal=signal_name(-code) if code < 0 else None,
                reason=_limit_reason(fields.get("exceeded"), command.status),
                user_seconds=fields["user_seconds"],
                system_seconds=fields["system_seconds"],
                max_rss_bytes=fields["max_rss_bytes"],
            )
        case Kind.CLOSED:
            _close(command, record.time_us, record.fields(), stop_reason)
        case Kind.REFUSED:
            _refuse(command, record.time_us, record.fields(), stop_reason)
        case Kind.LOST:
            command.transition_to(
                Status.LOST, finished_at=record.time_us, reason=record.fields()["reason"]
            )


def status_from_exit(outcome: Outcome) -> tuple[Status, str | None]:
    """Return the final status and reason of a command that ended by itself.

    Args:
        outcome: outcome of the command; the exit code or signal in it decides. If both are None,
            the command is lost. A reason in it comes from the record of the exit.
    """
    if outcome.exit_code is None and outcome.signal is None:
        return Status.LOST, None
    if outcome.exit_code == 0:
        return Status.SUCCEEDED, None
    if outcome.signal:
        return Status.FAILED, outcome.reason or f"it was ended by {outcome.signal}"
    return Status.FAILED, f"it exited with code {outcome.exit_code}"


def _limit_reason(exceeded: dict[str, Any] | None, status: Status) -> str | None:
    """Return the sentence about the limit in a record EXITED, None if the record has none.

    The first cause decides the status and the reason, so a limit after the begin of a stop does not
    count.
    """
    if status is Status.STOPPING:
        return None
    match exceeded:
        case {"limit": "cpu_seconds", "value": value}:
            return f"killed: it used more than {value:.15g} CPU seconds"
        case {"limit": "memory_bytes", "value": None}:
            return "killed for memory: the service or the machine had too little"
        case {"limit": "memory_bytes", "value": value}:
            return f"killed for memory: its processes needed more than {value} bytes"
    return None


def _close(
    command: TrackedCommand, at: int, fields: dict[str, Any], stop_reason: str | None
) -> None:
    outcome = command.outcome
    status, reason = _CAUSES[fields["cause"]] if fields["cause"] else status_from_exit(outcome)
    if fields["cause"] == "stop":
        reason = stop_reason
    if fields.get("interrupted"):
        reason = f"{reason}; {_INTERRUPTED}" if reason else _INTERRUPTED
    if outcome.started_at is None or command.missing_bytes:
        reason = f"{reason}; {INCOMPLETE_REASON}" if reason else INCOMPLETE_REASON
    command.transition_to(
        status,
        finished_at=at,
        reason=reason,
        leftovers_killed=fields["leftovers_killed"],
        discarded_bytes=fields["discarded_bytes"],
    )


def _refuse(
    command: TrackedCommand, at: int, fields: dict[str, Any], stop_reason: str | None
) -> None:
    if fields["retry"]:
        command.given_back_at = at
    elif fields.get("timed_out"):
        command.transition_to(Status.TIMED_OUT, finished_at=at, reason=fields["reason"])
    elif fields["stopped"]:
        reason = stop_reason or fields["reason"]
        command.transition_to(Status.STOPPED, finished_at=at, reason=reason)
    else:
        command.transition_to(Status.FAILED, finished_at=at, reason=fields["reason"])


# Large reads


class _Run:
    """Output records of one stream of a command that follow each other without a gap."""

    __slots__ = ("first", "last", "parts", "size")

    def __init__(self, first: Record) -> None:
        self.first = self.last = first
        self.parts = [first.data]
        self.size = len(first.data)

    def takes(self, record: Record) -> bool:
        """Append a record, unless it is of the other stream, too large, or behind a gap."""
        follows = (
            record.stream == self.first.stream
            and record.position == self.first.position + self.size
            and self.size + len(record.data) <= CHUNK_BYTES
        )
        if follows:
            self.parts.append(record.data)
            self.size += len(record.data)
            self.last = record
        return follows

    def merged(self) -> Record:
        return self.first._replace(data=b"".join(self.parts), end=self.last.end)


def merge_output(records: list[Record]) -> list[Record]:
    """Return the same records, with adjacent output of each command merged up to `CHUNK_BYTES`.

    The payloads are copied, so the buffer of the read can be used again. A merged record has the
    place and the time of its first part. The records of one command stay in
    order; those of different commands do not depend on each other.
    """
    merged: list[Record | _Run] = []
    runs: dict[bytes, _Run] = {}
    for record in records:
        if record.kind is not Kind.OUTPUT:
            runs.pop(record.command_id, None)
            merged.append(record._replace(data=bytes(record.data)))
            continue
        run = runs.get(record.command_id)
        if run is None or not run.takes(record):
            runs[record.command_id] = run = _Run(record)
            merged.append(run)
    return [each.merged() if isinstance(each, _Run) else each for each in merged]
