"""What can be done with the output of commands: its range, its tail, its bytes, live or not.

Called by the routes; knows nothing of HTTP. Event streams are in `server.events`.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import Connection

from scriptservice.errors import StoreError, UnknownCommandError
from scriptservice.model import Stream
from scriptservice.server.commands import command_id
from scriptservice.server.feed import Feed, Follower
from scriptservice.server.parts import PART_BYTES, Parts
from scriptservice.server.streaming import StreamCutError
from scriptservice.store import commands as command_store
from scriptservice.store import output as output_store
from scriptservice.store.reader import Reader

_STORE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Window:
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


class Outputs:
    """The output of all commands.

    Args:
        reader: for reading.
        feed: news of commands.
        parts: gives output to those who follow it.
    """

    def __init__(self, reader: Reader, feed: Feed, parts: Parts) -> None:
        self._reader = reader
        self._feed = feed
        self._parts = parts

    async def window(
        self, command: str, stream: Stream, *, offset: int, limit: int | None
    ) -> Window:
        """Return the range of a command's output from an offset on.

        Raises:
            UnknownCommandError: there is none of that id.
        """
        extent = await self._reader.run(command_store.extent, command_id(command))
        end = None if limit is None else offset + limit
        return Window(extent, stream, offset, end, extent.size(stream))

    async def tail(self, command: str, stream: Stream, count: int, *, lines: bool) -> Window:
        """Return the range of the last bytes or lines of a command's output.

        Raises:
            UnknownCommandError: there is none of that id.
        """

        def find(connection: Connection) -> Window:
            extent = command_store.extent(connection, command_id(command))
            size = extent.size(stream)
            start = max(0, size - count)
            if lines:
                start = output_store.start_of_last_lines(
                    connection, extent.number, stream, size, count
                )
            return Window(extent, stream, start, None, size)

        return await self._reader.run(find)

    async def read(self, window: Window) -> AsyncIterator[bytes]:
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

    async def follow(self, command: str, window: Window) -> AsyncIterator[bytes]:
        """Yield the bytes of a range as they come, until it or the command is at its end.

        Raises:
            StreamCutError: the server ends, or the command was deleted.
        """
        identifier = command_id(command)
        at = window.start
        with self._feed.subscription(identifier, Follower.OUTPUT) as news:
            while window.end is None or at < window.end:
                # Before reading: what is committed after this wakes us again.
                news.clear()
                upto = at + PART_BYTES if window.end is None else window.end
                try:
                    part = await self._parts.part(identifier, window.stream, at, upto)
                except UnknownCommandError as error:
                    raise StreamCutError from error
                except StoreError as error:
                    if self._feed.closing:
                        raise StreamCutError from error
                    await asyncio.sleep(_STORE_SECONDS)  # it goes on when the database is back
                    continue
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
