"""Appends to the journal: events from memory, output straight from its pipe."""

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
    CHECKED,
    HEADER_BYTES,
    SEGMENT_BYTES,
    SEGMENT_HEADER_BYTES,
    Kind,
    pack_output_header,
    read_segment_header,
    segment_bases,
    segment_header,
    segment_path,
)

_NO_ID = bytes(16)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ENOMEM}
_FREE_CHECK_BYTES = 1 << 20
_encode = json.JSONEncoder(separators=(",", ":")).encode


class NoRoomError(Exception):
    """The disk takes no more now; nothing was consumed or half written."""


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
        """Go on exactly where the keeper's program before this one was.

        Raises:
            ValueError: the segment on the disk is another one, or shorter.
        """
        size = os.fstat(self._file).st_size
        if not SEGMENT_HEADER_BYTES <= end - self._base <= size:
            message = f"cannot go on at position {end} of the journal: it ends at {self.end}"
            raise ValueError(message)
        self._offset = end - self._base
        if self._offset < size:
            os.ftruncate(self._file, self._offset)

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
        content = segment_header(self.id, base) + first_record
        descriptor = -1
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if os.pwrite(descriptor, content, 0) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            # Before an older one is dropped: a power cut must not leave a journal without any.
            os.fsync(descriptor)
            self._sync_directory()
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
                os.unlink(path)
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
            NoRoomError: the old segment stays in use.
        """
        reached("journal.rotate")
        base = self.end
        payload = _encode(self._snapshot()).encode()
        record = self._control(Kind.SNAPSHOT, _NO_ID, payload, 0, now_us())
        descriptor = self._create(base, record)
        os.close(self._file)
        self._file, self._base = descriptor, base
        self._offset = SEGMENT_HEADER_BYTES + len(record)
        self._bases.append(base)
        reached("journal.rotated")

    @staticmethod
    def _control(kind: Kind, command: bytes, payload: bytes, position: int, at: int) -> bytes:
        tail = CHECKED.pack(len(payload), kind, 0, 0, at, position, command) + payload
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
        payload = _encode(fields).encode()
        record = self._control(kind, command, payload, position, time_us)
        try:
            reached("journal.append")
            written = os.pwrite(self._file, record, self._offset)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise NoRoomError(str(error)) from error
        if written != len(record):
            os.ftruncate(self._file, self._offset)
            raise NoRoomError(os.strerror(errno.ENOSPC))
        reached("journal.appended")
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
        header = pack_output_header(Kind.OUTPUT, stream, length, at, position, command)
        try:
            reached("journal.splice")
            if os.pwrite(self._file, header, start) != HEADER_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            reached("journal.headed")
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
            header = pack_output_header(Kind.OUTPUT, stream, moved, at, position, command)
            os.pwrite(self._file, header, start)
        reached("journal.spliced")
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
            reached("journal.drop")
            with suppress(FileNotFoundError):
                os.unlink(segment_path(self._directory, self._bases[0]))
            reached("journal.dropped")
            del self._bases[0]

    def close(self) -> None:
        """Close the current segment."""
        os.close(self._file)
