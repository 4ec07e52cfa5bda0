"""Folds what a keeper's journal tells into what the store is to hold.

`Recorder` reads, stores and tells; here a record becomes a step of a command along the transition
table, or a piece of a chunk of output. Nothing here waits, reads or writes.
"""

import os
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from scriptservice.fleet.notifications import Step
from scriptservice.model import Outcome, Status, may_become, signal_name
from scriptservice.protocol.journal_format import Kind, Record
from scriptservice.store.queries.journal_changes import Chunk, RecordingConflictError
from scriptservice.store.queries.output import CHUNK_BYTES

_INTERRUPTED = "its keeper died before its end was on record; its output may be incomplete"
INCOMPLETE = "a part of its record is missing; its output may be incomplete"
"""A reason, where the journal lacks something."""
_AFTER_A_START = (Kind.STOPPING, Kind.DISCARDED, Kind.EXITED, Kind.CLOSED)
_CAUSES = {
    "stop": (Status.STOPPED, None),
    "shutdown": (Status.STOPPED, "the service was shut down"),
    "timeout": (Status.TIMED_OUT, "its time-out passed"),
    "limit": (Status.FAILED, "it was stopped at its output limit"),
}


@dataclass(slots=True)
class Live:
    """A command that is not final, as far as the journal has been read.

    Attributes:
        number: the command's.
        id: likewise.
        stored: its status in the database.
        status: what it is by what has been folded.
        outcome: likewise.
        created_at: microseconds since 1970 UTC.
        sent_at: when it was sent to its keeper, likewise; None if another server did.
        given_back_at: when its keeper gave it back, likewise.
        missing_bytes: output that the journal should have and has not.
        steps: the statuses it got and nobody has been told of.
    """

    number: int
    id: UUID
    stored: Status
    status: Status
    outcome: Outcome
    created_at: int
    sent_at: int | None = None
    given_back_at: int | None = None
    missing_bytes: int = 0
    steps: tuple[Status, ...] = ()

    @property
    def position(self) -> int:
        """How much merged output is stored, or will be with what has been folded."""
        return self.outcome.stdout_bytes + self.outcome.stderr_bytes

    def become(self, status: Status, **known: Any) -> None:
        """Take a step that the transition table allows.

        Raises:
            RecordingConflictError: it does not.
        """
        if status is not self.status and not may_become(self.status, status):
            message = f"command {self.id} cannot become {status}: it is {self.status}"
            raise RecordingConflictError(message)
        if status is not self.status:
            self.steps += (status,)
        self.status = status
        self.outcome = self.outcome._replace(**known)

    def copy(self) -> "Live":
        """Return another that knows the same."""
        # Not `dataclasses.replace`, which costs five times as much, for each command of a batch.
        return Live(
            self.number,
            self.id,
            self.stored,
            self.status,
            self.outcome,
            self.created_at,
            self.sent_at,
            self.given_back_at,
            self.missing_bytes,
            self.steps,
        )

    def told(self) -> list[Step]:
        """Return the steps since the last call."""
        steps, self.steps = self.steps, ()
        return [
            Step(self.id, status, self.outcome, self.created_at, self.sent_at) for status in steps
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
class Batch:
    """Records of one read, folded into what is to be stored."""

    live: dict[bytes, Live]
    lenient: bool = False
    touched: dict[bytes, Live] = field(default_factory=dict)
    chunks: list[Chunk] = field(default_factory=list)
    open_chunks: dict[bytes, _OpenChunk] = field(default_factory=dict)

    def command(self, command: bytes) -> Live | None:
        """Return this batch's own copy of a command; None if the store has none that is open."""
        if command in self.touched:
            return self.touched[command]
        known = self.live.get(command)
        if known is None:
            return None
        return self.touched.setdefault(command, known.copy())

    def add_output(self, command: bytes, live: Live, entry: Record) -> None:
        """Append output, coalesced with what precedes it in the same stream."""
        expected = live.position + live.missing_bytes
        if entry.position < expected:
            return  # stored already: the database is ahead of the position it was given
        live.missing_bytes += entry.position - expected
        size = len(entry.data)
        chunk = self.open_chunks.get(command)
        if chunk and (chunk.stream != entry.stream or chunk.size + size > CHUNK_BYTES):
            self.chunks.append(chunk.closed())
            chunk = None
        outcome = live.outcome
        name = "stdout_bytes" if entry.stream == 1 else "stderr_bytes"
        offset = getattr(outcome, name)
        if chunk is None:
            self.open_chunks[command] = _OpenChunk(
                live.number, live.position, entry.stream, offset, entry.time_us, [entry.data], size
            )
        else:
            chunk.parts.append(entry.data)
            chunk.size += size
        live.outcome = outcome._replace(**{name: offset + size})

    def close_chunks(self) -> None:
        """Add the chunks that are still open."""
        self.chunks += [chunk.closed() for chunk in self.open_chunks.values()]
        self.open_chunks.clear()


def apply(live: Live, entry: Record) -> None:
    """Let a command take the step that a record tells of."""
    if entry.kind in _AFTER_A_START and live.status is Status.QUEUED:
        # The record of its start is missing: it ran, though nobody can say since when.
        live.become(Status.RUNNING)
    match entry.kind:
        case Kind.STARTED if live.status is Status.QUEUED:
            live.given_back_at = None
            live.become(Status.RUNNING, started_at=entry.time_us)
        case Kind.STOPPING:
            live.become(Status.STOPPING)
        case Kind.DISCARDED:
            live.become(live.status, discarded_bytes=entry.fields()["discarded_bytes"])
        case Kind.EXITED:
            fields = entry.fields()
            code = os.waitstatus_to_exitcode(fields["status"])
            live.become(
                live.status,
                exited_at=entry.time_us,
                exit_code=code if code >= 0 else None,
                signal=signal_name(-code) if code < 0 else None,
                user_seconds=fields["user_seconds"],
                system_seconds=fields["system_seconds"],
                max_rss_bytes=fields["max_rss_bytes"],
            )
        case Kind.CLOSED:
            _close(live, entry.time_us, entry.fields())
        case Kind.REFUSED:
            _refuse(live, entry.time_us, entry.fields())
        case Kind.LOST:
            live.become(Status.LOST, finished_at=entry.time_us, reason=entry.fields()["reason"])


def by_its_exit(outcome: Outcome) -> tuple[Status, str | None]:
    """Return the status and the reason of a command that nobody ended, as its script exited."""
    if outcome.exit_code is None and outcome.signal is None:
        return Status.LOST, None
    if outcome.exit_code == 0:
        return Status.SUCCEEDED, None
    if outcome.signal:
        return Status.FAILED, f"it was ended by {outcome.signal}"
    return Status.FAILED, f"it exited with code {outcome.exit_code}"


def _close(live: Live, at: int, fields: dict[str, Any]) -> None:
    outcome = live.outcome
    status, reason = _CAUSES[fields["cause"]] if fields["cause"] else by_its_exit(outcome)
    if fields.get("interrupted"):
        reason = f"{reason}; {_INTERRUPTED}" if reason else _INTERRUPTED
    if outcome.started_at is None or live.missing_bytes:
        reason = f"{reason}; {INCOMPLETE}" if reason else INCOMPLETE
    live.become(
        status,
        finished_at=at,
        reason=reason,
        leftovers_killed=fields["leftovers_killed"],
        discarded_bytes=fields["discarded_bytes"],
    )


def _refuse(live: Live, at: int, fields: dict[str, Any]) -> None:
    if fields["retry"]:
        live.given_back_at = at
    elif fields.get("timed_out"):
        live.become(Status.TIMED_OUT, finished_at=at, reason=fields["reason"])
    elif fields["stopped"]:
        live.become(Status.STOPPED, finished_at=at, reason=fields["reason"])
    else:
        live.become(Status.FAILED, finished_at=at, reason=fields["reason"])
