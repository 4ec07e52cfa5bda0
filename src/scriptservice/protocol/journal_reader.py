"""Reads the journal from any position on, while the keeper appends to it."""

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
    """The journal no longer holds the position that was asked for.

    Attributes:
        first: the first position that it holds.
    """

    def __init__(self, position: int, first: int) -> None:
        super().__init__(f"cannot read the journal at {position}: it begins at {first}")
        self.first = first


class JournalDamagedError(Exception):
    """A record's checksum does not match.

    Attributes:
        position: where the record begins.
        next: where the next segment begins, or the end of the journal.
    """

    def __init__(self, position: int, next_position: int) -> None:
        super().__init__(
            f"cannot read the journal at {position}: the record's checksum does not match"
        )
        self.position = position
        self.next = next_position


class JournalReader:
    """Reads records up to the end that the keeper has published; the recorder owns one.

    Args:
        directory: the directory of the segments.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._file = -1
        self._base = -1

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
        """Open the segment that holds a position; return the position of the record there.

        A segment's base is the position of its header, which is skipped.
        """
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
            position: where to begin: a position from an earlier call, or a segment's base.
            end: the end that the keeper has published; nothing beyond it is read.
            max_bytes: about how much to read; a larger record is read whole.

        Returns:
            The records, in order, and the position after them; no records only at the end.

        Raises:
            JournalGapError: the journal does not hold that position.
            JournalDamagedError: a record's checksum does not match.
            OSError: the segment cannot be read.
        """
        if position >= end:
            return [], position
        raw = memoryview(b"")
        if self._file >= 0 and position > self._base:
            # The position is nearly always in the open segment; listing the directory costs more.
            raw = self._pread(position, min(max_bytes, end - position))
        if not raw:
            position = self._seek(position)
            if position >= end:
                return [], position
            raw = self._pread(position, min(max_bytes, end - position))
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

        This repeats `parse_header` and `payload_intact` inline. Each command has five records, and
        with the calls their parsing was a tenth of the server's work for it.
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

    def _pread(self, position: int, length: int) -> memoryview:
        return memoryview(os.pread(self._file, length, position - self._base))

    def _raise_damaged(self, position: int, end: int) -> None:
        later = [base for base in segment_bases(self._directory) if base > position]
        raise JournalDamagedError(position, later[0] if later else end)
