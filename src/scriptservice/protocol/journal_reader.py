"""Reads the journal of a keeper, from any position on, while the keeper appends to it."""

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
        raw = memoryview(b"")
        if self._file >= 0 and position > self._base:
            # Nearly always it goes on in the same segment; looking for another costs more.
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
            self._give_up(position, end)
        return records, position + offset

    def _parse_all(self, raw: memoryview, position: int) -> tuple[list[Record], int]:
        """Return the intact records at the beginning, and where they end.

        What `parse_header` and `payload_intact` say, without the steps between: five records for
        each command are a tenth of what the server does for it.
        """
        records: list[Record] = []
        size = len(raw)
        offset = 0
        while (start := offset + HEADER_BYTES) <= size:
            checksum, length, kind, stream, _, at, told, command = HEADER.unpack_from(raw, offset)
            after = start + length
            if after > size or length > MAX_RECORD_BYTES or kind not in KINDS:
                break
            checked = start if kind == Kind.OUTPUT else after
            if zlib.crc32(raw[offset + 4 : checked]) != checksum:
                break
            records.append(
                Record(KINDS[kind], command, stream, at, told, raw[start:after], position + after)
            )
            offset = after
        return records, offset

    def _pread(self, position: int, length: int) -> memoryview:
        return memoryview(os.pread(self._file, length, position - self._base))

    def _give_up(self, position: int, end: int) -> None:
        later = [base for base in segment_bases(self._directory) if base > position]
        raise JournalDamagedError(position, later[0] if later else end)
