"""Writes the journal's files: events from memory, output directly from its pipe."""

import errno
import json
import os
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from scriptservice.protocol.clock import now_us
from scriptservice.protocol.fault_points import reached
from scriptservice.protocol.journal_format import (
    CHECKED_HEADER,
    HEADER_BYTES,
    SEGMENT_BYTES,
    SEGMENT_HEADER_BYTES,
    SUFFIX,
    Kind,
    pack_output_header,
    read_segment_header,
    segment_bases,
    segment_header,
    segment_path,
)

_NO_ID = bytes(16)
_FREE_CHECK_BYTES = 1 << 20
DRAFT_SUFFIX = f"{SUFFIX}.new"
"""The end of the name of a segment that is not complete yet."""
_encode = json.JSONEncoder(separators=(",", ":")).encode


class NoRoomError(Exception):
    """The journal cannot be written now, most likely because the disk is full.

    Any other error of the disk has the same meaning: try again later. No byte was taken from a
    pipe, and no half-written record is before the journal's end.
    """


class JournalWriter:
    """Appends records to the last segment. A keeper has one writer, and no other process writes.

    Args:
        directory: the directory of the segments; call `repair` with this directory first.
        reserve_bytes: no output is moved to the journal while the disk has less free space than
            this.
        snapshot: returns the payload of a SNAPSHOT record, which contains the open commands.

    Attributes:
        id: the journal's UUID, which is read from the last segment. If there is no segment, the
            journal is new and gets a new UUID.

    Raises:
        ValueError: the last segment has no valid header.
        NoRoomError: there is no room for a first segment.
    """

    def __init__(
        self, directory: str, *, reserve_bytes: int, snapshot: Callable[[], dict[str, Any]]
    ) -> None:
        self._directory = directory
        self._reserve_bytes = reserve_bytes
        self._snapshot = snapshot
        self._unchecked_bytes = _FREE_CHECK_BYTES
        # Bytes after the journal's end, which a failed write may have left.
        self._has_rest = False
        # The header that an output record needs and does not have yet, and how many bytes of output
        # stand behind it; see `splice`.
        self._unfinished: tuple[bytes, int] | None = None
        self._bases = segment_bases(directory)
        if self._bases:
            self._base = self._bases[-1]
            path = segment_path(directory, self._base)
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            header = read_segment_header(self._file)
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

    def resume(self, end: int) -> None:
        """Continue exactly where the previous program of this keeper stopped.

        Args:
            end: the journal position after the last record of the previous program.

        Raises:
            ValueError: the last segment on the disk does not contain that position.
        """
        size = os.fstat(self._file).st_size
        if not SEGMENT_HEADER_BYTES <= end - self._base <= size:
            message = f"cannot continue the journal at position {end}: it ends at {self.end}"
            raise ValueError(message)
        self._offset = end - self._base
        if self._offset < size:
            os.ftruncate(self._file, self._offset)

    @property
    def end(self) -> int:
        """The journal position after the last record."""
        return self._base + self._offset

    @property
    def is_unfinished(self) -> bool:
        """Whether output was moved whose record is not complete; call `finish` until it is."""
        return self._unfinished is not None

    @property
    def first(self) -> int:
        """The journal position at which the oldest segment begins."""
        return self._bases[0]

    def _create(self, base: int, first_record: bytes) -> int:
        """Create a segment with its first record and return its descriptor.

        Raises:
            NoRoomError: there is no room for the segment; no file is left.
        """
        path = segment_path(self._directory, base)
        # A segment gets its name only when it is complete. Otherwise a segment that failed and
        # could not be deleted would hide the end of the segment before it.
        draft = path.removesuffix(SUFFIX) + DRAFT_SUFFIX
        content = segment_header(self.id, base) + first_record
        descriptor = -1
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            descriptor = os.open(draft, flags, 0o600)
            _write_all(descriptor, content, 0)
            # Sync the new segment. The older segments are deleted later, and after a power cut the
            # journal must still have at least one segment.
            os.fsync(descriptor)
            os.rename(draft, path)
        except OSError as error:
            if descriptor >= 0:
                with suppress(OSError):  # some file systems report an earlier error here
                    os.close(descriptor)
                with suppress(OSError):  # a later attempt writes the same file
                    os.unlink(draft)
            raise NoRoomError(str(error)) from error
        try:
            self._sync_directory()
        except OSError as error:
            # Without the sync, a power cut may take the segment.
            try:
                os.unlink(path)
            except OSError:
                return descriptor  # Readers find the segment under its name, so it must be used.
            with suppress(OSError):
                os.close(descriptor)
            raise NoRoomError(str(error)) from error
        return descriptor

    def _sync_directory(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def rotate(self) -> None:
        """Begin a new segment with a snapshot of the open commands.

        Raises:
            NoRoomError: there is no room for the new segment; the old one stays in use.
        """
        self.finish()
        try:
            reached("journal.rotate")
        except OSError as error:
            raise NoRoomError(str(error)) from error
        base = self.end
        payload = _encode(self._snapshot()).encode()
        record = self._pack_event(Kind.SNAPSHOT, _NO_ID, payload, 0, now_us())
        previous = self._file
        self._file = self._create(base, record)
        self._base, self._offset = base, SEGMENT_HEADER_BYTES + len(record)
        self._bases.append(base)
        with suppress(OSError):  # the descriptor is closed even if this reports an error
            os.close(previous)
        reached("journal.rotated")

    def finish(self) -> None:
        """Complete what a failed write has left behind.

        The writer calls this before each write. If `is_unfinished`, call it also when nothing else
        is written, since the output is not before the journal's end until then.

        Raises:
            NoRoomError: this failed too; the state is as before.
        """
        try:
            if self._unfinished is not None:
                header, moved = self._unfinished
                _write_all(self._file, header, self._offset)
                self._offset += HEADER_BYTES + moved
                self._unfinished = None
            if self._has_rest:
                os.ftruncate(self._file, self._offset)
                self._has_rest = False
        except OSError as error:
            raise NoRoomError(str(error)) from error

    def _cut(self) -> None:
        """Cut off the bytes after the journal's end, now or before the next write."""
        try:
            os.ftruncate(self._file, self._offset)
        except OSError:
            self._has_rest = True

    @staticmethod
    def _pack_event(kind: Kind, command_id: bytes, payload: bytes, position: int, at: int) -> bytes:
        tail = CHECKED_HEADER.pack(len(payload), kind, 0, 0, at, position, command_id) + payload
        return struct.pack("<I", zlib.crc32(tail)) + tail

    def append(
        self, kind: Kind, command_id: bytes, fields: dict[str, Any], position: int, time_us: int
    ) -> None:
        """Append a record that is not output.

        Args:
            kind: what happened.
            command_id: the command's UUID in 16 bytes; zeros for KEEPER.
            fields: the payload, which is written as JSON.
            position: the length of the command's merged output so far, in bytes.
            time_us: the time of the event, in microseconds since 1970 UTC.

        Raises:
            NoRoomError: nothing was written.
        """
        self._prepare()
        payload = _encode(fields).encode()
        self._write(self._pack_event(kind, command_id, payload, position, time_us))

    def _write(self, record: bytes) -> None:
        """Write a complete record behind the last one.

        Raises:
            NoRoomError: nothing was written.
        """
        try:
            reached("journal.append")
            _write_all(self._file, record, self._offset)
            reached("journal.appended")
        except OSError as error:
            self._cut()
            raise NoRoomError(str(error)) from error
        self._offset += len(record)

    def _prepare(self) -> None:
        """Make the current segment ready for the next record, or begin a new segment.

        Raises:
            NoRoomError: the journal cannot be written now.
        """
        if self._has_rest or self._unfinished is not None:
            self.finish()
        if self._offset >= SEGMENT_BYTES:
            self.rotate()

    def splice(self, pipe: int, length: int, command_id: bytes, stream: int, position: int) -> int:
        """Move output that waits in a pipe to the journal.

        The writer first writes a header with the number of bytes to move, then moves the bytes
        behind the header. If the keeper dies between the two steps or during the second step, the
        header still tells which command printed the bytes. `repair` then shortens the record to the
        bytes that were moved.

        Args:
            pipe: the read end of the pipe.
            length: how many bytes to move: at least one, at most the number that wait in the pipe.
            command_id: the command's UUID in 16 bytes.
            stream: 1 for stdout, 2 for stderr.
            position: the length of the command's merged output so far, in bytes.

        Returns:
            How many bytes were moved; 0 if the script has read its own pipe meanwhile.

        Raises:
            NoRoomError: nothing was taken from the pipe.
        """
        self._prepare()
        self._check_free(length)
        at = now_us()
        start = self._offset
        header = pack_output_header(Kind.OUTPUT, stream, length, at, position, command_id)
        try:
            reached("journal.splice")
            _write_all(self._file, header, start)
            reached("journal.headed")
            moved = os.splice(
                pipe,
                self._file,
                length,
                offset_dst=start + HEADER_BYTES,
                flags=os.SPLICE_F_NONBLOCK,
            )
        except BlockingIOError:
            # The pipe had bytes and is empty now. A process that has the write end of a pipe can
            # open the pipe for reading and take the bytes.
            moved = 0
        except OSError as error:
            self._cut()
            raise NoRoomError(str(error)) from error
        if moved == 0:
            self._cut()
            return 0
        if moved < length:
            header = pack_output_header(Kind.OUTPUT, stream, moved, at, position, command_id)
        try:
            reached("journal.spliced")
            if moved < length:
                _write_all(self._file, header, start)
        except OSError:
            self._unfinished = (header, moved)
        else:
            self._offset = start + HEADER_BYTES + moved
        return moved

    def append_output(self, data: bytes, command_id: bytes, stream: int, position: int) -> None:
        """Append output that the keeper has read; see `splice` for the arguments.

        Raises:
            NoRoomError: nothing was written.
        """
        self._prepare()
        self._check_free(len(data))
        at = now_us()
        header = pack_output_header(Kind.OUTPUT, stream, len(data), at, position, command_id)
        self._write(header + data)

    def _check_free(self, length: int) -> None:
        self._unchecked_bytes += length
        if self._unchecked_bytes < _FREE_CHECK_BYTES:
            return
        try:
            room = os.fstatvfs(self._file)
        except OSError as error:
            raise NoRoomError(str(error)) from error
        if room.f_bavail * room.f_frsize < self._reserve_bytes:
            raise NoRoomError("less free space than the reserve")
        self._unchecked_bytes = 0

    def drop(self, stored_position: int) -> None:
        """Delete the segments that end at or before a position.

        The current segment is never deleted. But if the current segment is completely stored and
        larger than 4 MiB, the writer begins a new segment, and then deletes the old segment. So an
        idle service does not keep much old output in the journal.

        Args:
            stored_position: everything before this journal position is stored in the database.
        """
        if stored_position >= self.end and self._offset > (4 << 20):
            with suppress(NoRoomError):
                self.rotate()
        while len(self._bases) > 1 and self._bases[1] <= stored_position:
            try:
                reached("journal.drop")
                os.unlink(segment_path(self._directory, self._bases[0]))
                reached("journal.dropped")
            except FileNotFoundError:
                pass
            except OSError:
                # The segment only uses space. The next position that is stored drops it.
                return
            del self._bases[0]

    def close(self) -> None:
        """Close the current segment."""
        os.close(self._file)


def _write_all(file: int, data: bytes, offset: int) -> None:
    """Write data at an offset of a file.

    Raises:
        OSError: the data was not written, or only a part of it.
    """
    if os.pwrite(file, data, offset) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
