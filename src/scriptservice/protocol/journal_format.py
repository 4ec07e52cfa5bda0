"""The journal's file format: what happened to every script and all that it printed, in one log.

The keeper appends records (``keeper.journal.journal_writer``), and the server's recorder reads them
(`JournalReader`). A keeper that starts after another one died repairs the journal and reads it
again (``keeper.journal.journal_repair``).

Output is part of the journal: a header tells which command's bytes follow and how many, then come
the bytes. ``splice`` moves them from the pipe, so that a byte is in the pipe or in the file and
never in between. Measured: 5 µs for a small output this way, 30 µs with a spool file for each
stream.

A position in the journal counts bytes from its beginning, over all segments. A segment file is
named by the position of its first byte and begins with a header; its records follow each other
without gaps. A new segment begins with a snapshot of all open commands, so that earlier segments
can be dropped once they are stored in the database.

Records are not synced. The page cache survives the death of any process; what a power cut takes is
covered by the dispatch mark in the database. Only a new segment is synced, when it is created.
"""

import json
import os
import re
import struct
import zlib
from enum import IntEnum
from typing import Any, NamedTuple
from uuid import UUID

SEGMENT_BYTES = 64 << 20
SUFFIX = ".journal"

_SEGMENT_NAME = re.compile(r"[0-9]{20}\.journal", re.ASCII)
_MAGIC = b"SSJRNL1\n"
_SEGMENT_HEADER = struct.Struct("<8s16sQI28x")
HEADER = struct.Struct("<IIBBHQQ16s")
CHECKED_HEADER = struct.Struct("<IBBHQQ16s")
SEGMENT_HEADER_BYTES = _SEGMENT_HEADER.size
HEADER_BYTES = HEADER.size
MAX_RECORD_BYTES = 1 << 30


class Kind(IntEnum):
    """What a record describes; the payload of every kind but OUTPUT is a JSON object.

    * KEEPER: a keeper began to append; its ``identity`` and ``cgroup``.
    * SNAPSHOT: all commands that are open at the start of a segment.
    * STARTING: a script is about to be spawned.
    * STARTED: it was spawned; ``pid``, ``start_ticks``, ``pipes``, ``output_limit_bytes``.
    * REFUSED: it was not spawned; ``reason``, and ``retry``: whether it may be sent again.
    * OUTPUT: bytes of one stream (1 stdout, 2 stderr) at ``position`` of the merged output.
    * DISCARDED: how many bytes beyond the output limit were discarded so far.
    * STOPPING: a stop began; ``cause`` (stop, timeout, limit, shutdown).
    * EXITED: the script's own process ended; ``status`` (wait status) and resource usage.
    * CLOSED: its process tree is gone and its output is complete.
    * LOST: its keeper died while it ran.
    """

    KEEPER = 1
    SNAPSHOT = 2
    STARTING = 3
    STARTED = 4
    REFUSED = 5
    OUTPUT = 6
    DISCARDED = 7
    STOPPING = 8
    EXITED = 9
    CLOSED = 10
    LOST = 11


KINDS = {kind.value: kind for kind in Kind}


class Record(NamedTuple):
    """A record as it was read.

    Attributes:
        kind: what it describes.
        command_id: the command's UUID in 16 bytes; zeros for KEEPER and SNAPSHOT.
        stream: 1 stdout, 2 stderr, 0 for every kind but OUTPUT.
        time_us: when it happened, microseconds since 1970 UTC.
        position: the command's merged output before this record, in bytes.
        data: for OUTPUT the bytes (empty if the reader skips them), else JSON.
        end: the journal position after the record.
    """

    kind: Kind
    command_id: bytes
    stream: int
    time_us: int
    position: int
    data: bytes | memoryview
    end: int

    def fields(self) -> dict[str, Any]:
        """Return the JSON payload of a record that is not OUTPUT."""
        return dict(json.loads(str(self.data, "utf-8")))


def id_bytes(command_id: str) -> bytes:
    """Return the 16 bytes of a UUID in its usual form; `UUID` takes five times as long."""
    return bytes.fromhex(command_id.replace("-", ""))


def pack_output_header(  # noqa: PLR0917 - the fields of a header, in their order
    kind: int, stream: int, length: int, time_us: int, position: int, command_id: bytes
) -> bytes:
    """Return the header of an output record; its checksum covers the header only."""
    tail = CHECKED_HEADER.pack(length, kind, stream, 0, time_us, position, command_id)
    return struct.pack("<I", zlib.crc32(tail)) + tail


def segment_header(journal_id: UUID, base: int) -> bytes:
    """Return the header of a segment that begins at the journal position ``base``."""
    body = _MAGIC + journal_id.bytes + base.to_bytes(8, "little")
    return _SEGMENT_HEADER.pack(_MAGIC, journal_id.bytes, base, zlib.crc32(body))


def read_segment_header(descriptor: int) -> tuple[UUID, int] | None:
    """Return a segment's journal id and base, None if its header is not valid."""
    raw = os.pread(descriptor, SEGMENT_HEADER_BYTES, 0)
    if len(raw) < SEGMENT_HEADER_BYTES:
        return None
    magic, journal_id, base, checksum = _SEGMENT_HEADER.unpack(raw)
    if magic != _MAGIC or zlib.crc32(raw[:32]) != checksum:
        return None
    return UUID(bytes=journal_id), base


def segment_path(directory: str, base: int) -> str:
    """Return the path of the segment that begins at a journal position."""
    return os.path.join(directory, f"{base:020d}{SUFFIX}")


def segment_bases(directory: str) -> list[int]:
    """Return the positions at which the segments begin, ascending; other files are ignored."""
    return sorted(int(name[:20]) for name in os.listdir(directory) if _SEGMENT_NAME.fullmatch(name))


class Header(NamedTuple):
    """The fields of a record's header; see `Record`. ``length``: of the payload, in bytes."""

    kind: int
    stream: int
    length: int
    time_us: int
    position: int
    command_id: bytes


def parse_header(raw: bytes | memoryview, offset: int) -> Header | None:
    """Return the header at an offset, None if its length, kind or checksum is not valid."""
    checksum, length, kind, stream, _, time_us, position, command_id = HEADER.unpack_from(
        raw, offset
    )
    body = raw[offset + 4 : offset + HEADER_BYTES]
    if length > MAX_RECORD_BYTES or not Kind.KEEPER <= kind <= Kind.LOST:
        return None
    # The checksum covers a payload of JSON too, so it cannot be checked here. A payload of output
    # has no checksum: the kernel moves it, and the keeper never sees the bytes.
    if kind == Kind.OUTPUT and zlib.crc32(body) != checksum:
        return None
    return Header(kind, stream, length, time_us, position, command_id)


def payload_intact(raw: bytes | memoryview, offset: int, parsed: Header) -> bool:
    """Return whether a record with a JSON payload is as it was written; output is not checked."""
    if parsed.kind == Kind.OUTPUT:
        return True
    checksum = int.from_bytes(raw[offset : offset + 4], "little")
    return zlib.crc32(raw[offset + 4 : offset + HEADER_BYTES + parsed.length]) == checksum
