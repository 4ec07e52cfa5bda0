"""A cache of recent output, which all followers share.

Output only grows: stored bytes do not change while their command exists, so they can be cached. The
cache keeps the blocks that were used last, up to a size that depends neither on the amount of
output nor on the number of followers. A follower whose bytes are cached needs neither a thread nor
the database. If several followers need the same missing block at the same time, they share one
read.

The cache does not know its followers.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from scriptservice.model import Stream
from scriptservice.server.commands.notifier import Notifier
from scriptservice.server.http.streaming import StreamCutError
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import output as output_store
from scriptservice.store.reader import Reader

READ_BYTES = 64 << 10
"""Most bytes that one read returns. For a slow client they stay in memory until they are sent."""

BLOCK_BYTES = output_store.CHUNK_BYTES
"""Most bytes that are read from the database at once. A chunk is always read whole."""

CACHE_BYTES = 8 << 20
"""Largest size of the cache, for all commands together."""

_BLOCK_OVERHEAD_BYTES = 1 << 10
"""Bytes added to each block's size, so that the number of empty blocks is bounded too."""

_Key = tuple[UUID, Stream, int]
"""A command, one of its streams, and the number of a block in that stream."""


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """The result of a read.

    Attributes:
        data: bytes from the requested offset on; empty if none are stored there.
        finished: True if no output can follow ``data``. False does not mean that more will come.
    """

    data: bytes
    finished: bool


@dataclass(frozen=True, slots=True)
class _Block:
    """The known part of one block of output.

    Attributes:
        start: offset of the first known byte, which may lie inside the block.
        data: the known bytes from ``start`` on.
        changes: the notifier's ``changes`` when the read of the block began.
        finished: True if no output can follow ``data``.
    """

    start: int
    data: bytes
    changes: int
    finished: bool

    @property
    def end(self) -> int:
        return self.start + len(self.data)

    @property
    def size_bytes(self) -> int:
        return len(self.data) + _BLOCK_OVERHEAD_BYTES

    def merged_with(self, earlier: "_Block | None") -> "_Block":
        """Return this block, with the earlier known part before it if the two are contiguous."""
        if earlier is None or not earlier.start < self.start <= earlier.end:
            return self
        data = earlier.data[: self.start - earlier.start] + self.data
        return _Block(earlier.start, data, self.changes, self.finished)


class BlockCache:
    """Reads output through a cache.

    Args:
        reader: reads from the database.
        notifier: its count of notifications tells whether output may have been added since a read.

    Attributes:
        cached_bytes: the size of all cached blocks together.
    """

    def __init__(self, reader: Reader, notifier: Notifier) -> None:
        self._reader = reader
        self._notifier = notifier
        self._blocks: OrderedDict[_Key, _Block] = OrderedDict()
        self._reading: dict[tuple[_Key, int, int], asyncio.Future[_Block]] = {}
        self.cached_bytes = 0

    async def read(self, command_id: UUID, stream: Stream, start: int, end: int) -> StoredOutput:
        """Return stored output from an offset on, at most `READ_BYTES`.

        Args:
            command_id: the command.
            stream: the stream that the offsets refer to.
            start: offset of the first byte.
            end: offset behind the last byte that is wanted.

        Raises:
            UnknownCommandError: there is no command with this id. If another process deleted it,
                cached output may still be returned for a moment.
            StoreError: the output cannot be read now.
            StreamCutError: output that should be stored is missing.
        """
        key = (command_id, stream, start // BLOCK_BYTES)
        block = self._blocks.get(key)
        if block is not None and self._covers(block, start):
            self._blocks.move_to_end(key)
            # A follower that finds everything in the cache would never let other tasks run.
            await asyncio.sleep(0)
        else:
            block = await self._read_block(key, start)
        first = start - block.start
        data = block.data[first : first + min(READ_BYTES, end - start)]
        return StoredOutput(data, block.finished and start + len(data) == block.end)

    def _covers(self, block: _Block, start: int) -> bool:
        """Return whether a block tells what is stored at an offset, or that nothing is there."""
        if block.start <= start < block.end:
            return True
        # Every commit is followed by a notification. If none came since the block was read, nothing
        # is stored behind the block's end.
        return start == block.end and (block.finished or block.changes == self._notifier.changes)

    async def _read_block(self, key: _Key, start: int) -> _Block:
        """Return a block from an offset on; callers that want the same block share one read."""
        # Share only a read that began after the last notification. An earlier read may miss the
        # change that was notified, and no second notification of that change wakes the follower.
        wanted = (key, start, self._notifier.changes)
        reading = self._reading.get(wanted)
        if reading is None:
            reading = asyncio.ensure_future(self._reader.run(_block, *wanted))
            self._reading[wanted] = reading
            reading.add_done_callback(lambda done: self._block_read(wanted, done))
        return await asyncio.shield(reading)

    def _block_read(self, wanted: tuple[_Key, int, int], reading: "asyncio.Future[_Block]") -> None:
        failed = reading.cancelled() or reading.exception() is not None
        if self._reading.get(wanted) is not reading:
            return  # the command was deleted meanwhile
        del self._reading[wanted]
        if not failed:
            self._keep(wanted[0], reading.result())

    def _keep(self, key: _Key, block: _Block) -> None:
        earlier = self._blocks.pop(key, None)
        if earlier is not None:
            self.cached_bytes -= earlier.size_bytes
            block = block.merged_with(earlier)
        self._blocks[key] = block
        self.cached_bytes += block.size_bytes
        while self.cached_bytes > CACHE_BYTES:
            _, oldest = self._blocks.popitem(last=False)
            self.cached_bytes -= oldest.size_bytes

    def forget(self, command_id: UUID) -> None:
        """Drop the output of a deleted command. The next read of it raises UnknownCommandError."""
        for key in [key for key in self._blocks if key[0] == command_id]:
            self.cached_bytes -= self._blocks.pop(key).size_bytes
        for wanted in [wanted for wanted in self._reading if wanted[0][0] == command_id]:
            del self._reading[wanted]


def _block(connection: Connection, key: _Key, start: int, changes: int) -> _Block:
    command_id, stream, number = key
    extent = command_store.find_extent(connection, command_id)
    size = extent.size(stream)
    end = min(size, (number + 1) * BLOCK_BYTES)
    data = output_store.read(connection, extent.number, stream, start, end)
    if start < end and not data:
        raise StreamCutError
    return _Block(start, data, changes, extent.finished and start + len(data) >= size)
