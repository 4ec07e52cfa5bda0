"""Compresses chunks of output with zstd, and decompresses them again.

This module knows bytes only. `fleet.output_compressor` compresses what the recorder stores, and
``store.queries.output`` decompresses what it reads. ADR 0027 has the measurements behind the
constants.
"""

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD = 1
"""The value of the column ``compression`` of a compressed chunk; a chunk as printed has null."""

MAX_BYTES = 256 << 10
"""Size in bytes of the largest chunk that is compressed, so that a reader can bound its memory."""

MIN_BYTES = 4 << 10
"""Size in bytes of the smallest chunk that is compressed."""

LEVEL = 1

_SAMPLE_BYTES = 4 << 10
_SAMPLED_FROM_BYTES = 32 << 10
"""From this size on, a chunk is compressed only if its first `_SAMPLE_BYTES` shrink enough."""


class DamagedFrameError(Exception):
    """Stored bytes are not a complete and intact chunk that `Compressor` made."""


class Compressor:
    """Compresses chunks. Use an object in one thread at a time; it keeps about 1 MiB of memory."""

    def __init__(self) -> None:
        options: dict[int, int] = {
            zstd.CompressionParameter.compression_level: LEVEL,
            # With the checksum, a reader notices damage instead of returning wrong bytes.
            zstd.CompressionParameter.checksum_flag: 1,
        }
        self._zstd = zstd.ZstdCompressor(options=options)

    def compress(self, data: bytes | memoryview) -> bytes | None:
        """Return the compressed bytes, or None if they would not save at least an eighth.

        The interpreter's lock is released meanwhile.
        """
        size = len(data)
        if not MIN_BYTES <= size <= MAX_BYTES:
            return None
        if size >= _SAMPLED_FROM_BYTES and self._shrunk(data[:_SAMPLE_BYTES]) is None:
            return None
        return self._shrunk(data)

    def _shrunk(self, data: bytes | memoryview) -> bytes | None:
        # All bytes are passed in one call, so that zstd writes their number into the frame.
        frame: bytes = self._zstd.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)
        return frame if len(frame) <= len(data) * 7 // 8 else None


def decompress(frame: bytes) -> bytes:
    """Return the original bytes of a compressed chunk.

    Args:
        frame: what `Compressor.compress` returned.

    Raises:
        DamagedFrameError: the bytes are damaged.
    """
    try:
        # A damaged size must not make zstd allocate gigabytes.
        size = zstd.get_frame_info(frame).decompressed_size
        if size is None or size > MAX_BYTES:
            message = f"its size would be {size}"
            raise DamagedFrameError(message)
        data: bytes = zstd.decompress(frame)
    except zstd.ZstdError as error:
        raise DamagedFrameError(str(error)) from error
    if len(data) != size:
        message = f"it has {len(data)} bytes instead of {size}"
        raise DamagedFrameError(message)
    return data
