"""What can be done with the output of commands: its range, its tail, its bytes, live or not.

Called by the routes; knows nothing of HTTP. Event streams are made in ``event_stream``.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from scriptservice.errors import StoreError, UnknownCommandError
from scriptservice.model import Stream
from scriptservice.server.commands.command_service import command_id
from scriptservice.server.commands.notifier import FollowerKind, Notifier
from scriptservice.server.http.streaming import StreamCutError
from scriptservice.server.output.block_cache import PART_BYTES, BlockCache
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import output as output_store
from scriptservice.store.reader import Reader
from scriptservice.store.until_stored import until_stored


@dataclass(frozen=True, slots=True)
class OutputRange:
    """A range of output.

    Attributes:
        extent: what there was when it was asked for.
        stream: whose offsets are meant.
        start: offset of its first byte.
        end: offset behind its last byte; None: where the command ends.
        size: bytes of that stream that were known.
    """

    extent: command_store.Extent
    stream: Stream
    start: int
    end: int | None
    size: int


class OutputService:
    """The output of all commands.

    Args:
        reader: for reading.
        feed: news of commands.
        parts: gives output to those who follow it.
    """

    def __init__(self, reader: Reader, feed: Notifier, parts: BlockCache) -> None:
        self._reader = reader
        self._feed = feed
        self._parts = parts

    async def window(
        self, command: str, stream: Stream, *, offset: int, limit: int | None
    ) -> OutputRange:
        """Return the range of a command's output from an offset on.

        Raises:
            UnknownCommandError: there is none of that id.
        """
        extent = await self._reader.run(command_store.extent, command_id(command))
        end = None if limit is None else offset + limit
        return OutputRange(extent, stream, offset, end, extent.size(stream))

    async def tail(self, command: str, stream: Stream, count: int, *, lines: bool) -> OutputRange:
        """Return the range of the last bytes or lines of a command's output.

        Raises:
            UnknownCommandError: there is none of that id.
        """
        extent = await self._reader.run(command_store.extent, command_id(command))
        size = extent.size(stream)
        start = max(0, size - count)
        if lines:
            last = output_store.LastLines(extent.number, stream, size, count)
            while last.start is None:
                # Each step waits its turn: there may be much to look through.
                await self._reader.run(last.step)
            start = last.start
        return OutputRange(extent, stream, start, None, size)

    async def read(self, window: OutputRange) -> AsyncIterator[bytes]:
        """Yield the bytes of a range that were there when it was asked for.

        Raises:
            StreamCutError: they are no longer all there.
        """
        at = window.start
        end = window.size if window.end is None else min(window.end, window.size)
        while at < end:
            upto = min(end, at + PART_BYTES)
            part = await self._reader.run(
                output_store.read, window.extent.number, window.stream, at, upto
            )
            if not part:
                raise StreamCutError
            at += len(part)
            yield part

    async def follow(self, command: str, window: OutputRange) -> AsyncIterator[bytes]:
        """Yield the bytes of a range as they come, until it or the command is at its end.

        Raises:
            StreamCutError: the server ends, or the command was deleted.
        """
        identifier = command_id(command)
        at = window.start
        with self._feed.subscription(identifier, FollowerKind.OUTPUT) as news:
            while window.end is None or at < window.end:
                # Before reading: what is committed after this wakes us again.
                news.clear()
                upto = at + PART_BYTES if window.end is None else window.end
                try:
                    part = await until_stored(
                        partial(self._parts.part, identifier, window.stream, at, upto),
                        None,  # the log says it once, not for each follower
                        unless=lambda: self._feed.closing,
                    )
                except (UnknownCommandError, StoreError) as error:
                    raise StreamCutError from error
                if part.data:
                    at += len(part.data)
                    yield part.data
                if part.finished:
                    return
                if part.data:
                    continue
                if self._feed.closing:
                    raise StreamCutError
                await news.wait()
