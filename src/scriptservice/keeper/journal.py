"""The journal: what happened to every script, and every byte they printed, in one ordered log.

The keeper appends (`JournalWriter`), the recorder reads (`JournalReader`), a keeper that starts
after a death repairs and rescans (`repair`). Output is part of the journal: a header that says
whose bytes follow and how many, then the bytes, moved from the pipe by ``splice``, so that they
are in the pipe or in the file and never in between. Measured: 5 µs for a small output this way,
30 µs with a spool file for each stream.

A position in the journal counts bytes from its beginning, over all segments. A segment file is
named by the position of its first byte and begins with a header; each record follows the one
before. A new segment begins with a snapshot of all open commands, so that the segments before it
can be dropped once they are recorded.

Nothing here is synced: the page cache survives the death of any process, and what a power cut may
take is answered by the dispatch mark in the database.
"""

import errno
import json
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import IntEnum
from typing import Any, NamedTuple
from uuid import UUID, uuid4

SEGMENT_BYTES = 64 << 20
SUFFIX = ".journal"

_MAGIC = b"SSJRNL1\n"
_SEGMENT = struct.Struct("<8s16sQI28x")
_HEADER = struct.Struct("<IIBBHQQ16s")
_CHECKED = struct.Struct("<IBBHQQ16s")
SEGMENT_HEADER_BYTES = _SEGMENT.size
HEADER_BYTES = _HEADER.size
_MAX_RECORD_BYTES = 1 << 30
_NO_ID = bytes(16)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ENOMEM}
_FREE_CHECK_BYTES = 1 << 20


class Kind(IntEnum):
    """What a record says; the payload of all but OUTPUT is a JSON object.

    * KEEPER: a keeper began to write here; its identity.
    * SNAPSHOT: all commands open at the start of a segment.
    * STARTING: a script is about to be spawned.
    * STARTED: it was; ``pid``, ``start_ticks``, ``pipes``.
    * REFUSED: it was not; ``retry`` says whether it may be sent again, ``reason`` why.
    * OUTPUT: bytes of one stream (1 stdout, 2 stderr) at ``position`` of the merged output.
    * DISCARDED: bytes beyond the output limit so far.
    * STOPPING: a stop began; ``cause`` (stop, timeout, limit, shutdown).
    * EXITED: the script's own process ended; ``status`` (wait status) and usage.
    * CLOSED: its tree is gone and its output complete.
    * LOST: its keeper died under it.
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


class NoRoomError(Exception):
    """The disk takes no more now; nothing was consumed or half written."""


class JournalGapError(Exception):
    """A position is asked for that the journal does not hold.

    Attributes:
        first: the first position it holds.
    """

    def __init__(self, position: int, first: int) -> None:
        super().__init__(f"cannot read the journal at {position}: it begins at {first}")
        self.first = first


class JournalDamagedError(Exception):
    """A record does not have the checksum it was written with.

    Attributes:
        position: where it stands.
        next: where the next segment begins, or the end of the journal.
    """

    def __init__(self, position: int, following: int) -> None:
        super().__init__(f"cannot read the journal at {position}: its checksum differs")
        self.position = position
        self.next = following


class Record(NamedTuple):
    """One record as it was read.

    Attributes:
        kind: what it says.
        id: the command's UUID in 16 bytes; zeros for KEEPER and SNAPSHOT.
        stream: 1 stdout, 2 stderr, 0 for all but OUTPUT.
        time_us: when it was written, microseconds since 1970 UTC.
        position: the command's merged output so far, in bytes, before this record.
        data: OUTPUT: the bytes (empty where a scan skips them); else JSON.
        end: the journal position after it.
    """

    kind: Kind
    id: bytes
    stream: int
    time_us: int
    position: int
    data: bytes | memoryview
    end: int

    def fields(self) -> dict[str, Any]:
        """Return the JSON payload as a dictionary; not for OUTPUT."""
        return dict(json.loads(bytes(self.data)))


def now_us() -> int:
    """Return the time of day in microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def _pack(  # noqa: PLR0917 - the fields of a header, in their order
    kind: int, stream: int, length: int, at: int, position: int, command: bytes
) -> bytes:
    tail = _CHECKED.pack(length, kind, stream, 0, at, position, command)
    return struct.pack("<I", zlib.crc32(tail)) + tail


def _segment_header(journal_id: UUID, base: int) -> bytes:
    body = _MAGIC + journal_id.bytes + base.to_bytes(8, "little")
    return _SEGMENT.pack(_MAGIC, journal_id.bytes, base, zlib.crc32(body))


def _read_segment_header(descriptor: int) -> tuple[UUID, int] | None:
    raw = os.pread(descriptor, SEGMENT_HEADER_BYTES, 0)
    if len(raw) < SEGMENT_HEADER_BYTES:
        return None
    magic, journal_id, base, checksum = _SEGMENT.unpack(raw)
    if magic != _MAGIC or zlib.crc32(raw[:32]) != checksum:
        return None
    return UUID(bytes=journal_id), base


def segment_path(directory: str, base: int) -> str:
    """Return the path of the segment that begins at a journal position."""
    return os.path.join(directory, f"{base:020d}{SUFFIX}")


def segment_bases(directory: str) -> list[int]:
    """Return where the segments begin, ascending."""
    names = (name for name in os.listdir(directory) if name.endswith(SUFFIX))
    return sorted(int(name[: -len(SUFFIX)]) for name in names)


class _Parsed(NamedTuple):
    kind: int
    stream: int
    length: int
    time_us: int
    position: int
    id: bytes


def _parse(raw: bytes | memoryview, offset: int) -> _Parsed | None:
    """Return the header at an offset, or None when its checksum or its kind is not one."""
    checksum, length, kind, stream, _, at, position, command = _HEADER.unpack_from(raw, offset)
    body = raw[offset + 4 : offset + HEADER_BYTES]
    if length > _MAX_RECORD_BYTES or not Kind.KEEPER <= kind <= Kind.LOST:
        return None
    # A payload of JSON is checked too; one of output is moved by the kernel and never seen here.
    if kind == Kind.OUTPUT and zlib.crc32(body) != checksum:
        return None
    return _Parsed(kind, stream, length, at, position, command)


def _payload_intact(raw: bytes | memoryview, offset: int, parsed: _Parsed) -> bool:
    if parsed.kind == Kind.OUTPUT:
        return True
    checksum = int.from_bytes(raw[offset : offset + 4], "little")
    return zlib.crc32(raw[offset + 4 : offset + HEADER_BYTES + parsed.length]) == checksum


class JournalWriter:
    """Appends to the journal; there is one, in the keeper.

    Args:
        directory: where the segments are; `repair` has seen it.
        reserve_bytes: output is not taken while the disk has less room than this.
        snapshot: returns the payload of a SNAPSHOT record.
    """

    def __init__(
        self, directory: str, *, reserve_bytes: int, snapshot: Callable[[], dict[str, Any]]
    ) -> None:
        self._directory = directory
        self._reserve_bytes = reserve_bytes
        self._snapshot = snapshot
        self._unchecked_bytes = _FREE_CHECK_BYTES
        self._bases = segment_bases(directory)
        if self._bases:
            self._base = self._bases[-1]
            path = segment_path(directory, self._base)
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            header = _read_segment_header(self._file)
            if header is None:
                message = f"cannot open the journal segment {path}: it has not been repaired"
                raise ValueError(message)
            self.id = header[0]
            self._offset = os.fstat(self._file).st_size
        else:
            self.id = uuid4()
            self._base, self._offset = 0, SEGMENT_HEADER_BYTES
            self._file = self._create(0, b"")
            self._bases = [0]

    @property
    def end(self) -> int:
        """The position after the last record."""
        return self._base + self._offset

    @property
    def first(self) -> int:
        """The position of the first byte that is still held."""
        return self._bases[0]

    @property
    def held_bytes(self) -> int:
        """How many bytes the segments on disk have together."""
        return self.end - self.first

    def _create(self, base: int, first_record: bytes) -> int:
        """Make a segment whole or not at all; return its descriptor."""
        path = segment_path(self._directory, base)
        content = _segment_header(self.id, base) + first_record
        descriptor = -1
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if os.pwrite(descriptor, content, 0) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
                os.unlink(path)
            raise NoRoomError(str(error)) from error
        return descriptor

    def rotate(self) -> None:
        """Begin a new segment with a snapshot of the open commands.

        Raises:
            NoRoomError: the old segment stays in use.
        """
        base = self.end
        payload = json.dumps(self._snapshot(), separators=(",", ":")).encode()
        record = self._control(Kind.SNAPSHOT, _NO_ID, payload, 0, now_us())
        descriptor = self._create(base, record)
        os.close(self._file)
        self._file, self._base = descriptor, base
        self._offset = SEGMENT_HEADER_BYTES + len(record)
        self._bases.append(base)

    @staticmethod
    def _control(kind: Kind, command: bytes, payload: bytes, position: int, at: int) -> bytes:
        tail = _CHECKED.pack(len(payload), kind, 0, 0, at, position, command) + payload
        return struct.pack("<I", zlib.crc32(tail)) + tail

    def append(
        self, kind: Kind, command: bytes, fields: dict[str, Any], position: int, time_us: int
    ) -> None:
        """Append a record that is not output.

        Raises:
            NoRoomError: nothing was written.
        """
        if self._offset >= SEGMENT_BYTES:
            self.rotate()
        payload = json.dumps(fields, separators=(",", ":")).encode()
        record = self._control(kind, command, payload, position, time_us)
        try:
            written = os.pwrite(self._file, record, self._offset)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise NoRoomError(str(error)) from error
        if written != len(record):
            os.ftruncate(self._file, self._offset)
            raise NoRoomError(os.strerror(errno.ENOSPC))
        self._offset += written

    def splice(self, pipe: int, length: int, command: bytes, stream: int, position: int) -> int:
        """Move output that waits in a pipe to the journal.

        The header goes first and names exactly the bytes known to wait, so a death between the
        two leaves a tail that says whose bytes it holds; `repair` shortens it to what arrived.

        Args:
            pipe: its read end.
            length: bytes that wait in it, at least one.
            command: the command's UUID.
            stream: 1 stdout, 2 stderr.
            position: the command's merged output so far.

        Returns:
            How many bytes were moved; none if the script has read its own pipe meanwhile.

        Raises:
            NoRoomError: nothing was taken from the pipe.
        """
        if self._offset >= SEGMENT_BYTES:
            self.rotate()
        self._check_free(length)
        at = now_us()
        start = self._offset
        header = _pack(Kind.OUTPUT, stream, length, at, position, command)
        try:
            if os.pwrite(self._file, header, start) != HEADER_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            moved = os.splice(
                pipe,
                self._file,
                length,
                offset_dst=start + HEADER_BYTES,
                flags=os.SPLICE_F_NONBLOCK,
            )
        except BlockingIOError:
            moved = 0  # whoever holds the writing end can open it for reading, and take the bytes
        except OSError as error:
            os.ftruncate(self._file, start)
            if error.errno not in _FULL:
                raise
            raise NoRoomError(str(error)) from error
        if moved == 0:
            os.ftruncate(self._file, start)
            return 0
        if moved < length:
            header = _pack(Kind.OUTPUT, stream, moved, at, position, command)
            os.pwrite(self._file, header, start)
        self._offset = start + HEADER_BYTES + moved
        return moved

    def _check_free(self, length: int) -> None:
        self._unchecked_bytes += length
        if self._unchecked_bytes < _FREE_CHECK_BYTES:
            return
        room = os.fstatvfs(self._file)
        if room.f_bavail * room.f_frsize < self._reserve_bytes:
            raise NoRoomError("less room than the reserve")
        self._unchecked_bytes = 0

    def drop(self, recorded: int) -> None:
        """Delete the segments that end at or before a recorded position.

        A current segment that is recorded to its end and worth the trouble is replaced by a new
        one, so that a quiet service keeps no old output here.
        """
        if recorded >= self.end and self._offset > (4 << 20):
            with suppress(NoRoomError):
                self.rotate()
        while len(self._bases) > 1 and self._bases[1] <= recorded:
            with suppress(FileNotFoundError):
                os.unlink(segment_path(self._directory, self._bases[0]))
            del self._bases[0]

    def close(self) -> None:
        """Close the current segment."""
        os.close(self._file)


class JournalReader:
    """Reads records up to a position that the keeper has published; the recorder's side.

    Args:
        directory: where the segments are.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._file = -1
        self._base = -1
        self._size = 0

    def close(self) -> None:
        """Close the open segment."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self, base: int) -> None:
        self.close()
        self._file = os.open(segment_path(self._directory, base), os.O_RDONLY | os.O_CLOEXEC)
        self._base = base

    def _seek(self, position: int) -> int:
        """Open the segment that holds a position; return the position of the record there."""
        bases = segment_bases(self._directory)
        holding = [base for base in bases if base <= position]
        if not holding:
            raise JournalGapError(position, bases[0] if bases else 0)
        if holding[-1] != self._base or self._file < 0:
            self._open(holding[-1])
        return max(position, self._base + SEGMENT_HEADER_BYTES)

    def read(self, position: int, end: int, max_bytes: int) -> tuple[list[Record], int]:
        """Return the records from a position on.

        Args:
            position: where to begin; a position that an earlier call returned, or a segment's.
            end: the published end; nothing beyond it is looked at.
            max_bytes: about how much to read; one larger record is read whole.

        Returns:
            The records, in order, and the position after them; no records only at the end.

        Raises:
            JournalGapError: the journal no longer holds that position.
            JournalDamagedError: a checksum differs.
            OSError: the segment cannot be read.
        """
        if position >= end:
            return [], position
        position = self._seek(position)
        if position >= end:
            return [], position
        raw = self._pread(position, min(max_bytes, end - position))
        if len(raw) >= HEADER_BYTES:
            needed = HEADER_BYTES + int.from_bytes(raw[4:8], "little")
            if len(raw) < needed <= min(end - position, _MAX_RECORD_BYTES):
                raw = self._pread(position, needed)
        records, offset = self._parse_all(raw, position)
        if not records:
            self._give_up(position, end)
        return records, position + offset

    def _parse_all(self, raw: memoryview, position: int) -> tuple[list[Record], int]:
        records: list[Record] = []
        offset = 0
        while offset + HEADER_BYTES <= len(raw):
            parsed = _parse(raw, offset)
            if parsed is None:
                break
            after = offset + HEADER_BYTES + parsed.length
            if after > len(raw) or not _payload_intact(raw, offset, parsed):
                break
            records.append(
                Record(
                    kind=Kind(parsed.kind),
                    id=parsed.id,
                    stream=parsed.stream,
                    time_us=parsed.time_us,
                    position=parsed.position,
                    data=raw[offset + HEADER_BYTES : after],
                    end=position + after,
                )
            )
            offset = after
        return records, offset

    def _pread(self, position: int, length: int) -> memoryview:
        return memoryview(os.pread(self._file, length, position - self._base))

    def _give_up(self, position: int, end: int) -> None:
        later = [base for base in segment_bases(self._directory) if base > position]
        raise JournalDamagedError(position, later[0] if later else end)


def scan(directory: str, base: int) -> Iterator[Record]:
    """Yield the records of one segment up to the first that is torn; output without its bytes.

    The last record may be a torn output record: it is yielded with the length of the bytes that
    arrived, in ``end``.
    """
    descriptor = os.open(segment_path(directory, base), os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        offset = SEGMENT_HEADER_BYTES
        while offset + HEADER_BYTES <= size:
            raw = os.pread(descriptor, HEADER_BYTES, offset)
            parsed = _parse(raw, 0)
            if parsed is None:
                return
            after = offset + HEADER_BYTES + parsed.length
            data = b""
            if parsed.kind == Kind.OUTPUT:
                after = min(after, size)
            else:
                raw = os.pread(descriptor, HEADER_BYTES + parsed.length, offset)
                if after > size or not _payload_intact(raw, 0, parsed):
                    return
                data = raw[HEADER_BYTES:]
            yield Record(
                kind=Kind(parsed.kind),
                id=parsed.id,
                stream=parsed.stream,
                time_us=parsed.time_us,
                position=parsed.position,
                data=data,
                end=base + after,
            )
            offset = after
    finally:
        os.close(descriptor)


def output_length(record: Record, start: int) -> int:
    """Return how many bytes an OUTPUT record of a scan holds, given where the record began."""
    return record.end - start - HEADER_BYTES


def repair(directory: str) -> list[str]:
    """Cut off what the death of a keeper left half written; set aside what cannot be a segment.

    Only the end of the last segment can be half written. Damage elsewhere is left as it is: the
    reader reports it and goes on with the next segment.

    Returns:
        A sentence for each thing that was found and mended.
    """
    notes: list[str] = []
    for base in reversed(segment_bases(directory)):
        path = segment_path(directory, base)
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            header = _read_segment_header(descriptor)
            if header is not None and header[1] == base:
                notes += _repair_tail(directory, descriptor, base)
                break
            os.rename(path, path + ".damaged")
            notes.append(f"set aside journal segment {base}: it has no valid header")
        finally:
            os.close(descriptor)
    return notes


def _repair_tail(directory: str, descriptor: int, base: int) -> list[str]:
    size = os.fstat(descriptor).st_size
    start = end = base + SEGMENT_HEADER_BYTES
    last: Record | None = None
    for record in scan(directory, base):
        start, end, last = end, record.end, record
    if last is not None and last.kind == Kind.OUTPUT:
        if output_length(last, start):
            _shorten(descriptor, base, start, last)
        else:
            end = start  # of no bytes: what is rescued next would begin at the same position
    if base + size <= end:
        return []
    os.ftruncate(descriptor, end - base)
    return [f"cut {base + size - end} bytes off journal segment {base}: half written"]


def _shorten(descriptor: int, base: int, start: int, record: Record) -> None:
    """Make the header of a torn output record name the bytes that arrived."""
    length = output_length(record, start)
    header = _pack(Kind.OUTPUT, record.stream, length, record.time_us, record.position, record.id)
    os.pwrite(descriptor, header, start - base)
