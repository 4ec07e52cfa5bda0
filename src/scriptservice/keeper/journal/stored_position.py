"""How far the journal is recorded in the database, kept for the keeper's next start.

The keeper notes it in a small file beside the journal, at each word of its child. It is a hint:
too low costs nothing but a second look, too high would let go what is not recorded. So it has a
checksum, and one that is damaged counts as none.
"""

import os
import zlib

_NUMBER_BYTES = 8
_CHECKSUM_BYTES = 4


class StoredPosition:
    """The file with the position.

    Args:
        directory: the journal's.
    """

    def __init__(self, directory: str) -> None:
        path = os.path.join(directory, "recorded")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> int | None:
        """Return the position, 0 where none was noted yet; None if the file is damaged."""
        raw = os.pread(self._file, _NUMBER_BYTES + _CHECKSUM_BYTES, 0)
        number = raw[:_NUMBER_BYTES]
        # An earlier release wrote no checksum.
        if len(raw) in (0, _NUMBER_BYTES) or raw[_NUMBER_BYTES:] == _checksum(number):
            return int.from_bytes(number, "little")
        return None

    def write(self, position: int) -> None:
        """Note a position.

        Raises:
            OSError: the disk is full, perhaps.
        """
        number = position.to_bytes(_NUMBER_BYTES, "little")
        os.pwrite(self._file, number + _checksum(number), 0)


def _checksum(number: bytes) -> bytes:
    return zlib.crc32(number).to_bytes(_CHECKSUM_BYTES, "little")
