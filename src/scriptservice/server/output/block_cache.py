"""Parts of output for those who follow it, read once for as many as want the same.

Output only grows: what is stored at an offset never changes while its command is there. So what
was read last is kept, within bounds that depend on neither output nor followers, and whoever
finds its part here needs no thread and no look at the database. What is not here is read by one
for all who ask at the same moment. Nothing here knows who follows.
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

PART_BYTES = 64 << 10
"""How much output is held in memory for one reader: a slow one keeps it until it is sent."""

BLOCK_BYTES = output_store.CHUNK_BYTES
"""How much is read at once at most: a chunk is read whole, however little of it is wanted."""

KEPT_BYTES = 8 << 20
"""How much is kept for whoever comes next, of all commands together."""

_BLOCK_OVERHEAD_BYTES = 1 << 10
"""What a block counts besides its bytes: there may be many that have none."""

_Key = tuple[UUID, Stream, int]


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """Some stored output.

    Attributes:
        data: from the offset on that was asked for; empty if nothing is stored there.
        finished: whether there can be none beyond it; false is not the opposite.
    """

    data: bytes
    finished: bool


@dataclass(frozen=True, slots=True)
class _Block:
    """What is known of one block of output.

    Attributes:
        start: offset of the first byte that is known, which need not be the block's first.
        data: what is stored from there on.
        changes: how much news there had been when its end was looked for.
        finished: whether there was no more to come.
    """

    start: int
    data: bytes
    changes: int
    finished: bool

    @property
    def end(self) -> int:
        return self.start + len(self.data)

    @property
    def weight_bytes(self) -> int:
        return len(self.data) + _BLOCK_OVERHEAD_BYTES

    def after(self, earlier: "_Block | None") -> "_Block":
        """Return this and what is known of the same block already, if they meet."""
        if earlier is None or not earlier.start < self.start <= earlier.end:
            return self
        data = earlier.data[: self.start - earlier.start] + self.data
        return _Block(earlier.start, data, self.changes, self.finished)


class BlockCache:
    """Gives parts of output.

    Args:
        reader: of the store.
        feed: says whether there was news.
    """

    def __init__(self, reader: Reader, feed: Notifier) -> None:
        self._reader = reader
        self._feed = feed
        self._blocks: OrderedDict[_Key, _Block] = OrderedDict()
        self._reading: dict[tuple[_Key, int, int], asyncio.Future[_Block]] = {}
        self.kept_bytes = 0

    async def part(self, command: UUID, stream: Stream, start: int, end: int) -> StoredOutput:
        """Return stored output from an offset on, a part of bounded size.

        Args:
            command: whose.
            stream: whose offsets are meant.
            start: the first byte's offset.
            end: the offset behind the last byte that is wanted.

        Raises:
            UnknownCommandError: there is none of that id; what is kept may still be given for a
                moment if it was deleted elsewhere.
            StoreError: it cannot be read now.
        StreamCutError: what should be stored there is not.
        """
        key = (command, stream, start // BLOCK_BYTES)
        block = self._blocks.get(key)
        if block is not None and self._tells(block, start):
            self._blocks.move_to_end(key)
            # One that gets all it wants here waits for nothing, and others are to have a turn.
            await asyncio.sleep(0)
        else:
            block = await self._read(key, start)
        first = start - block.start
        data = block.data[first : first + min(PART_BYTES, end - start)]
        return StoredOutput(data, block.finished and start + len(data) == block.end)

    def _tells(self, block: _Block, start: int) -> bool:
        """Whether a block says what is stored at an offset, or that nothing is."""
        if block.start <= start < block.end:
            return True
        # What is committed after its end was looked for is news, and there was none.
        return start == block.end and (block.finished or block.changes == self._feed.changes)

    async def _read(self, key: _Key, start: int) -> _Block:
        """Return a block from an offset on; those who ask the same at the same time share it."""
        # One that began before the last news may not see it, and who was woken by that news is
        # not woken again.
        wanted = (key, start, self._feed.changes)
        reading = self._reading.get(wanted)
        if reading is None:
            reading = asyncio.ensure_future(self._reader.run(_block, *wanted))
            self._reading[wanted] = reading
            reading.add_done_callback(lambda done: self._was_read(wanted, done))
        return await asyncio.shield(reading)

    def _was_read(self, wanted: tuple[_Key, int, int], reading: "asyncio.Future[_Block]") -> None:
        failed = reading.cancelled() or reading.exception() is not None
        if self._reading.get(wanted) is not reading:
            return  # its command was deleted meanwhile
        del self._reading[wanted]
        if not failed:
            self._keep(wanted[0], reading.result())

    def _keep(self, key: _Key, block: _Block) -> None:
        earlier = self._blocks.pop(key, None)
        if earlier is not None:
            self.kept_bytes -= earlier.weight_bytes
            block = block.after(earlier)
        self._blocks[key] = block
        self.kept_bytes += block.weight_bytes
        while self.kept_bytes > KEPT_BYTES:
            _, oldest = self._blocks.popitem(last=False)
            self.kept_bytes -= oldest.weight_bytes

    def forget(self, command: UUID) -> None:
        """Give no more of a command that was deleted: the next who asks is told that."""
        for key in [key for key in self._blocks if key[0] == command]:
            self.kept_bytes -= self._blocks.pop(key).weight_bytes
        for wanted in [wanted for wanted in self._reading if wanted[0][0] == command]:
            del self._reading[wanted]


def _block(connection: Connection, key: _Key, start: int, changes: int) -> _Block:
    command, stream, number = key
    extent = command_store.extent(connection, command)
    size = extent.size(stream)
    upto = min(size, (number + 1) * BLOCK_BYTES)
    data = output_store.read(connection, extent.number, stream, start, upto)
    if start < upto and not data:
        raise StreamCutError
    return _Block(start, data, changes, extent.finished and start + len(data) >= size)
