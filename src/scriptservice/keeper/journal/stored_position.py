"""How far the journal is stored in the database, kept on disk for the keeper's next start.

The keeper writes the position to a small file beside the journal whenever its child reports one.
The file is a hint. A position that is too low only makes the recorder read records again; one that
is too high would delete records that are not stored. So the file has a checksum, and a damaged file
counts as no position.
"""

import os
import zlib

_NUMBER_BYTES = 8
_CHECKSUM_BYTES = 4


class StoredPosition:
    """The file with the position.

    Args:
        directory: the journal's directory.
    """

    def __init__(self, directory: str) -> None:
        path = os.path.join(directory, "recorded")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> int | None:
        """Return the position, 0 if none was ever written, None if the file is damaged."""
        raw = os.pread(self._file, _NUMBER_BYTES + _CHECKSUM_BYTES, 0)
        number = raw[:_NUMBER_BYTES]
        # An earlier release wrote no checksum.
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
