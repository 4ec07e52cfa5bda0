"""Compresses output before it is stored, on threads if there is much to do.

Only the recorder calls this module.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from scriptservice.protocol.journal_format import Kind, Record
from scriptservice.store.compression import MIN_BYTES, ZSTD, Compressor
from scriptservice.store.queries.journal_changes import Chunk

THREADS = 2
"""At most this many threads compress at the same time. zstd releases the interpreter's lock."""

DIRECT_BYTES = 32 << 10
"""At most this many bytes are compressed in the event loop, which takes a tenth of a millisecond.

Handing the work to a thread and back would take longer.
"""

Frames = Mapping[int, bytes | None]
"""Compressed pieces of output; None for a piece for which compression does not pay."""


class OutputCompressor:
    """Compresses output where that saves space."""

    def __init__(self) -> None:
        self._compressors = [Compressor() for _ in range(THREADS)]
        self._in_use = asyncio.Lock()

    async def compress_records(self, records: Sequence[Record]) -> Frames:
        """Compress the output of records.

        Returns:
            The compressed output by the journal positions after the records.
        """
        output = [record for record in records if record.kind is Kind.OUTPUT]
        frames = await self._compress([record.data for record in output])
        return {output[place].end: frame for place, frame in frames.items()}

    async def compress_chunks(self, chunks: Sequence[Chunk], known: Frames) -> list[Chunk]:
        """Return chunks as they are to be stored, in the same order.

        Args:
            chunks: the chunks as printed.
            known: the compressed bytes of those that were compressed before, by their places in
                ``chunks``.
        """
        stored = list(chunks)
        others = [place for place in range(len(chunks)) if place not in known]
        found = await self._compress([chunks[place].data for place in others])
        frames = {**known, **{others[place]: frame for place, frame in found.items()}}
        for place, frame in frames.items():
            if frame is not None:
                stored[place] = replace(chunks[place], data=frame, compression=ZSTD)
        return stored

    async def _compress(self, pieces: Sequence[bytes | memoryview]) -> Frames:
        """Return the compressed pieces by their places; small pieces are left out."""
        large = [place for place, piece in enumerate(pieces) if len(piece) >= MIN_BYTES]
        frames: dict[int, bytes | None] = {}
        if not large:
            return frames
        places = iter(large)
        async with self._in_use:
            if sum(len(pieces[place]) for place in large) <= DIRECT_BYTES:
                _compress_each(self._compressors[0], pieces, places, frames)
            else:
                # The threads share one iterator: each takes the next piece when it is done.
                await asyncio.gather(
                    *(
                        asyncio.to_thread(_compress_each, compressor, pieces, places, frames)
                        for compressor, _ in zip(self._compressors, large, strict=False)
                    )
                )
        return frames


def _compress_each(
    compressor: Compressor,
    pieces: Sequence[bytes | memoryview],
    places: Iterator[int],
    frames: dict[int, bytes | None],
) -> None:
    """Compress the pieces at some places, and put the results into ``frames``."""
    for place in places:
        frames[place] = compressor.compress(pieces[place])
