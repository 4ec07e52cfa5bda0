"""The journal's file format: one log with the events and the output of all scripts.

The keeper appends records (``keeper.journal.journal_writer``), and the server's recorder reads them
(`JournalReader`). If a keeper dies, the next keeper repairs the journal and reads it
(``keeper.journal.journal_repair``).

Output is part of the journal. The header of an output record tells to which command the following
bytes belong, and the number of these bytes. The kernel's ``splice`` moves the bytes from the pipe
to the file, so each byte is in the pipe or in the file, never only in the keeper's memory. Moving a
small output takes 5 µs in this way. With a spool file for each stream it took 30 µs.

A journal position is a number of bytes from the journal's beginning, counted over all segments. The
name of a segment file is the position of the segment's first byte. The file begins with a header,
and the records follow without gaps. The first record of a new segment is a snapshot of all open
commands, so that earlier segments can be deleted once they are stored in the database.

Records are not synced to the disk. They survive the death of any process, since the kernel's page
cache contains them. After a power cut records may be missing. But the server marks each command in
the database before it sends the command to the keeper, so the database tells which commands may
have run. Only the creation of a new segment is synced.
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
    """What a record describes.

    The payload of an OUTPUT record is the output. The payload of any other record is a JSON object,
    whose fields are in parentheses here.

    * KEEPER: a keeper began to append (``identity``, ``cgroup``).
    * SNAPSHOT: all commands that are open at the start of a segment.
    * STARTING: a script is about to be spawned.
    * STARTED: the script was spawned (``pid``, ``start_ticks``, ``pipes``, ``output_limit_bytes``).
    * REFUSED: the script was not spawned (``reason``; ``retry``: whether the server may send the
      command again).
    * OUTPUT: bytes of one stream (1 stdout, 2 stderr). ``position`` is the number of bytes of both
      streams before this record.
    * DISCARDED: how many bytes beyond the output limit were discarded so far.
    * STOPPING: the keeper began to stop the script (``cause``: stop, timeout, limit or shutdown).
    * EXITED: the script's own process ended (``status``: its wait status; resource usage;
      ``exceeded``: the limit for which the kernel has ended it, as ``limit`` and ``value``, and
      absent if that was not the cause).
    * CLOSED: the script's process tree is gone and its output is complete.
    * LOST: the keeper does not know how the script ended. In most cases an earlier keeper died
      while the script was running.
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
    """A record that was read from the journal.

    Attributes:
        kind: what the record describes.
        command_id: the command's UUID in 16 bytes; zeros for KEEPER and SNAPSHOT.
        stream: 1 for stdout, 2 for stderr; 0 if the kind is not OUTPUT.
        time_us: the time of the event, in microseconds since 1970 UTC.
        position: how many bytes of output, of both streams, the command has before this record.
        data: the payload: output if the kind is OUTPUT (empty if the reader skips output), else
            JSON.
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
    """Return the 16 bytes of a UUID that is given as text.

    The standard library's `UUID` takes five times as long.
    """
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
    """Return a segment's journal id and first position, None if the segment's header is invalid."""
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
    """Return the positions at which the segments in a directory begin, in ascending order."""
    return sorted(int(name[:20]) for name in os.listdir(directory) if _SEGMENT_NAME.fullmatch(name))


class Header(NamedTuple):
    """The fields of a record's header.

    Attributes:
        kind: see `Record`.
        stream: see `Record`.
        length: the length of the payload, in bytes.
        time_us: see `Record`.
        position: see `Record`.
        command_id: see `Record`.
    """

    kind: int
    stream: int
    length: int
    time_us: int
    position: int
    command_id: bytes


def parse_header(raw: bytes | memoryview, offset: int) -> Header | None:
    """Return the header at an offset, None if its length, kind or checksum is not valid.

    This function checks the checksum only for OUTPUT. For other kinds `payload_intact` checks it.
    """
    checksum, length, kind, stream, _, time_us, position, command_id = HEADER.unpack_from(
        raw, offset
    )
    body = raw[offset + 4 : offset + HEADER_BYTES]
    if length > MAX_RECORD_BYTES or not Kind.KEEPER <= kind <= Kind.LOST:
        return None
    # If the payload is JSON, the checksum also covers the payload, so the header is not enough to
    # check it. If the payload is output, the checksum covers only the header: the kernel moves the
    # output, and the keeper never sees the bytes.
    if kind == Kind.OUTPUT and zlib.crc32(body) != checksum:
        return None
    return Header(kind, stream, length, time_us, position, command_id)


def payload_intact(raw: bytes | memoryview, offset: int, parsed: Header) -> bool:
    """Return whether a record's JSON payload is intact; always True for OUTPUT.

    Args:
        raw: bytes with the complete record.
        offset: the offset of the record in these bytes.
        parsed: the record's header.
    """
    if parsed.kind == Kind.OUTPUT:
        return True
    checksum = int.from_bytes(raw[offset : offset + 4], "little")
    return zlib.crc32(raw[offset + 4 : offset + HEADER_BYTES + parsed.length]) == checksum
