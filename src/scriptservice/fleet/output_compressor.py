"""Compresses the chunks of a batch before they are stored, on threads if there is much to do.

Only the recorder calls this module.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

from scriptservice.store.compression import MIN_BYTES, ZSTD, Compressor
from scriptservice.store.queries.journal_changes import Chunk

THREADS = 2
"""At most this many threads compress at the same time. zstd releases the interpreter's lock."""

DIRECT_BYTES = 32 << 10
"""At most this many bytes are compressed in the event loop, which takes a tenth of a millisecond.

Handing the work to a thread and back would take longer.
"""


class OutputCompressor:
    """Compresses chunks where that saves space; call it for one batch at a time."""

    def __init__(self) -> None:
        self._compressors = [Compressor() for _ in range(THREADS)]

    async def compress(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Return the chunks as they are to be stored, in the same order.

        A chunk is compressed if that saves at least an eighth. The other chunks are returned as
        they are, small ones at once.
        """
        stored = list(chunks)
        large = [place for place, chunk in enumerate(stored) if len(chunk.data) >= MIN_BYTES]
        if not large:
            return stored
        places = iter(large)
        if sum(len(stored[place].data) for place in large) <= DIRECT_BYTES:
            _compress_each(self._compressors[0], stored, places)
        else:
            # The threads share one iterator: each takes the next chunk when it is done with one.
            await asyncio.gather(
                *(
                    asyncio.to_thread(_compress_each, compressor, stored, places)
                    for compressor, _ in zip(self._compressors, large, strict=False)
                )
            )
        return stored


def _compress_each(compressor: Compressor, chunks: list[Chunk], places: Iterator[int]) -> None:
    """Replace the chunks at some places of a list by compressed ones where that saves space."""
    for place in places:
        frame = compressor.compress(chunks[place].data)
        if frame is not None:
            chunks[place] = replace(chunks[place], data=frame, compression=ZSTD)
