"""Reads the journal from a given position on, while the keeper appends to the journal."""

import os
import zlib

from scriptservice.protocol.journal_format import (
    HEADER,
    HEADER_BYTES,
    KINDS,
    MAX_RECORD_BYTES,
    SEGMENT_HEADER_BYTES,
    Kind,
    Record,
    segment_bases,
    segment_path,
)


class JournalGapError(Exception):
    """The journal no longer contains the requested position.

    Attributes:
        first: the first journal position that can still be read.
    """

    def __init__(self, position: int, first: int) -> None:
        super().__init__(f"cannot read the journal at {position}: it begins at {first}")
        self.first = first


class JournalDamagedError(Exception):
    """A record of the journal is damaged: its checksum does not match.

    Attributes:
        position: the journal position at which the record begins.
        next: the journal position at which reading can continue: the beginning of the next segment,
            or the end of the journal if there is no next segment.
    """

    def __init__(self, position: int, next_position: int) -> None:
        super().__init__(
            f"cannot read the journal at {position}: the record's checksum does not match"
        )
        self.position = position
        self.next = next_position


class JournalReader:
    """Reads the journal's records, up to the journal position that the caller gives as the end.

    Args:
        directory: the directory of the segments.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._file = -1
        self._base = -1
        self._buffer: memoryview | None = None

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
        """Open the segment that contains a position; return the position of the record there.

        If the position is the beginning of a segment, that record begins after the segment's
        header.
        """
        bases = segment_bases(self._directory)
        holding = [base for base in bases if base <= position]
        if not holding:
            raise JournalGapError(position, bases[0] if bases else 0)
        if holding[-1] != self._base or self._file < 0:
            self._open(holding[-1])
        return max(position, self._base + SEGMENT_HEADER_BYTES)

    def read_into_buffer(self, position: int, end: int, max_bytes: int) -> tuple[list[Record], int]:
        """Do what `read` does, but read into a buffer that this object keeps.

        The payloads of the records are valid until the next call of this method. New memory for
        each read would cost as much as the read itself, since the kernel clears each page of it.
        """
        if self._buffer is None or len(self._buffer) < max_bytes:
            self._buffer = memoryview(bytearray(max_bytes))
        return self._read(position, end, max_bytes, self._buffer)

    def read(self, position: int, end: int, max_bytes: int) -> tuple[list[Record], int]:
        """Return the next records, beginning at a journal position.

        Args:
            position: the journal position of the first record. It is the position that an earlier
                call returned, or the beginning of a segment.
            end: the end of the journal that the keeper has published; nothing after it is read.
            max_bytes: the maximum number of bytes to read. If the first record is larger, the whole
                first record is read.

        Returns:
            The records, in order, and the journal position after the last of them. The list is
            empty only at the end of the journal.

        Raises:
            JournalGapError: the journal no longer contains the position.
            JournalDamagedError: the checksum of the first record does not match.
            OSError: the segment cannot be read.
        """
        return self._read(position, end, max_bytes, None)

    def _read(
        self, position: int, end: int, max_bytes: int, buffer: memoryview | None
    ) -> tuple[list[Record], int]:
        if position >= end:
            return [], position
        raw = memoryview(b"")
        if self._file >= 0 and position > self._base:
            # The position is nearly always in the segment that is already open, so try that segment
            # first. `_seek` costs more, because it lists the directory.
            raw = self._pread(position, min(max_bytes, end - position), buffer)
        if not raw:
            position = self._seek(position)
            if position >= end:
                return [], position
            raw = self._pread(position, min(max_bytes, end - position), buffer)
        if len(raw) >= HEADER_BYTES:
            needed = HEADER_BYTES + int.from_bytes(raw[4:8], "little")
            if len(raw) < needed <= min(end - position, MAX_RECORD_BYTES):
                raw = self._pread(position, needed)
        records, offset = self._parse_all(raw, position)
        if not records:
            self._raise_damaged(position, end)
        return records, position + offset

    def _parse_all(self, raw: memoryview, position: int) -> tuple[list[Record], int]:
        """Return the intact records at the beginning of some bytes, and the offset after them.

        This repeats the code of `parse_header` and `payload_intact`, because calls of these
        functions are slow. With such calls, parsing the five records of a command took a tenth of
        the server's work for the command.
        """
        records: list[Record] = []
        size = len(raw)
        offset = 0
        while (start := offset + HEADER_BYTES) <= size:
            checksum, length, kind, stream, _, time_us, printed, command_id = HEADER.unpack_from(
                raw, offset
            )
            after = start + length
            if after > size or length > MAX_RECORD_BYTES or kind not in KINDS:
                break
            checked = start if kind == Kind.OUTPUT else after
            if zlib.crc32(raw[offset + 4 : checked]) != checksum:
                break
            records.append(
                Record(
                    KINDS[kind],
                    command_id,
                    stream,
                    time_us,
                    printed,
                    raw[start:after],
                    position + after,
                )
            )
            offset = after
        return records, offset

    def _pread(self, position: int, length: int, buffer: memoryview | None = None) -> memoryview:
        if buffer is not None:
            wanted = buffer[:length]
            return wanted[: os.preadv(self._file, [wanted], position - self._base)]
        return memoryview(os.pread(self._file, length, position - self._base))

    def _raise_damaged(self, position: int, end: int) -> None:
        later = [base for base in segment_bases(self._directory) if base > position]
        raise JournalDamagedError(position, later[0] if later else end)
