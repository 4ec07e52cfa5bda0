"""Keeps in a file up to which journal position the database has stored the journal.

Whenever the child, the server, reports this position, the keeper writes it to a small file in the
journal's directory. The keeper reads the file at its next start. The file is only a hint. If the
position in the file is too low, the server only reads some records again. If the position were too
high, the keeper would delete records that are not stored. So the file has a checksum, and a
position from a damaged file is not used.
"""

import os
import zlib

_NUMBER_BYTES = 8
_CHECKSUM_BYTES = 4


class StoredPosition:
    """The file with the stored position.

    Args:
        directory: the journal's directory.
    """

    def __init__(self, directory: str) -> None:
        path = os.path.join(directory, "recorded")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> int | None:
        """Return the position; 0 if no position was ever written; None if the file is damaged."""
        raw = os.pread(self._file, _NUMBER_BYTES + _CHECKSUM_BYTES, 0)
        number = raw[:_NUMBER_BYTES]
        # A file without a checksum comes from an earlier release.
        if len(raw) in (0, _NUMBER_BYTES) or raw[_NUMBER_BYTES:] == _checksum(number):
            return int.from_bytes(number, "little")
        return None

    def write(self, position: int) -> None:
        """Write a position.

        Raises:
            OSError: the file cannot be written; most likely the disk is full.
        """
        number = position.to_bytes(_NUMBER_BYTES, "little")
        os.pwrite(self._file, number + _checksum(number), 0)


def _checksum(number: bytes) -> bytes:
    return zlib.crc32(number).to_bytes(_CHECKSUM_BYTES, "little")
