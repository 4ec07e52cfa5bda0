"""A cache of recent output. All followers, the requests that follow a command's output, share it.

Stored output can be cached, because it does not change while its command exists: output only grows.
The cache keeps the blocks that were used last. Its size has a fixed limit, however much output and
however many followers there are. If the bytes for a follower are in the cache, no thread and no
access to the database is needed. If several followers need the same missing block at the same time,
they share one read.
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
"""Maximum number of bytes that one read returns. If a client is slow, these bytes stay in memory
until they are sent."""

BLOCK_BYTES = output_store.CHUNK_BYTES
"""Size of a block of the cache, and so the maximum size of one read from the database. It is the
size of the largest chunk, because a chunk is always read whole."""

CACHE_BYTES = 8 << 20
"""Largest size of the cache, for all commands together."""

_BLOCK_OVERHEAD_BYTES = 1 << 10
"""Number of bytes by which each block counts as larger than its data. Without them, the number of
empty blocks would have no limit."""

_Key = tuple[UUID, Stream, int]
"""A command, one of its streams, and the number of a block in that stream."""


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """The result of a read.

    Attributes:
        data: bytes from the requested offset on; empty if no bytes are stored there.
        finished: True if no output can follow ``data``; False if more output may follow.
    """

    data: bytes
    finished: bool


@dataclass(frozen=True, slots=True)
class _Block:
    """The known part of one block of output.

    Attributes:
        start: offset of the first known byte, which may lie inside the block.
        data: the known bytes from ``start`` on.
        changes: value of the notifier's ``changes`` when the read of the block began.
        finished: True if no output can follow ``data``; False if more output may follow.
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
        """Return this part of a block, extended at its start by a part that was read earlier.

        Args:
            earlier: the part that was read earlier; None if there is no such part. It is used only
                if it begins before this part and leaves no gap before this part.
        """
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
            end: offset after the last byte that is wanted.

        Raises:
            UnknownCommandError: there is no command with this id. After another process has deleted
                a command, its cached output may still be returned for a moment.
            StoreError: the output cannot be read now.
            StreamCutError: output that should be stored is missing.
        """
        key = (command_id, stream, start // BLOCK_BYTES)
        block = self._blocks.get(key)
        if block is not None and self._covers(block, start):
            self._blocks.move_to_end(key)
            # Let other tasks run. Without this call, a follower that finds all its output in the
            # cache could keep the event loop to itself.
            await asyncio.sleep(0)
        else:
            block = await self._read_block(key, start)
        first = start - block.start
        data = block.data[first : first + min(READ_BYTES, end - start)]
        return StoredOutput(data, block.finished and start + len(data) == block.end)

    def _covers(self, block: _Block, start: int) -> bool:
        """Return whether a block has the byte at an offset, or shows that it is not stored yet."""
        if block.start <= start < block.end:
            return True
        # A notification follows every commit. If there has been no notification since the block was
        # read, nothing is stored after the block's end.
        return start == block.end and (block.finished or block.changes == self._notifier.changes)

    async def _read_block(self, key: _Key, start: int) -> _Block:
        """Return a block from an offset on; callers that want the same block share one read."""
        # Share only a read that began after the last notification. An earlier read may have missed
        # the change that caused the notification. Then the follower would miss the change too,
        # because no second notification wakes it.
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

    def forget(self, command_ids: set[UUID]) -> None:
        """Drop the output of deleted commands: the next read of it raises UnknownCommandError."""
        for key in [key for key in self._blocks if key[0] in command_ids]:
            self.cached_bytes -= self._blocks.pop(key).size_bytes
        for wanted in [wanted for wanted in self._reading if wanted[0][0] in command_ids]:
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
