"""Reads the output of commands: a range, the last bytes or lines, or the output as it grows.

The routes call this module. This module knows nothing of HTTP. ``event_stream`` makes the event
streams.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import structlog

from scriptservice.errors import DamagedOutputError, StoreError, UnknownCommandError
from scriptservice.model import Stream
from scriptservice.server.commands.command_service import parse_command_id
from scriptservice.server.commands.notifier import FollowerKind, Notifier
from scriptservice.server.http.streaming import StreamCutError
from scriptservice.server.output.block_cache import READ_BYTES, BlockCache
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import output as output_store
from scriptservice.store.reader import Reader
from scriptservice.store.until_stored import until_stored

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OutputRange:
    """A range of a command's output.

    Attributes:
        extent: how much output there was, in each stream, when the range was requested.
        stream: the stream that the offsets refer to.
        start: offset of the first byte.
        end: offset after the last byte; None if the range goes on until the command ends.
        size: size in bytes of the stream when the range was requested.
    """

    extent: command_store.OutputExtent
    stream: Stream
    start: int
    end: int | None
    size: int


class OutputService:
    """Reads the output of commands.

    Args:
        reader: reads from the database.
        notifier: wakes followers.
        cache: reads output for followers.
    """

    def __init__(self, reader: Reader, notifier: Notifier, cache: BlockCache) -> None:
        self._reader = reader
        self._notifier = notifier
        self._cache = cache

    async def range_from(
        self, command_id: str, stream: Stream, *, offset: int, limit: int | None
    ) -> OutputRange:
        """Return the range of a command's output from an offset on.

        Args:
            command_id: the command's id.
            stream: the stream that the offset refers to.
            offset: offset of the first byte.
            limit: maximum number of bytes in the range, None for no limit.

        Raises:
            UnknownCommandError: there is no command with this id.
        """
        extent = await self._reader.run(command_store.find_extent, parse_command_id(command_id))
        end = None if limit is None else offset + limit
        return OutputRange(extent, stream, offset, end, extent.size(stream))

    async def tail(
        self, command_id: str, stream: Stream, count: int, *, lines: bool
    ) -> OutputRange:
        """Return the range of the last bytes or lines of a command's output.

        Args:
            command_id: the command's id.
            stream: the stream whose end is wanted.
            count: number of lines or bytes.
            lines: whether ``count`` is a number of lines.

        Raises:
            UnknownCommandError: there is no command with this id.
        """
        extent = await self._reader.run(command_store.find_extent, parse_command_id(command_id))
        size = extent.size(stream)
        start = max(0, size - count)
        if lines:
            last = output_store.LastLines(extent.number, stream, size, count)
            while last.start is None:
                # Many steps may be needed. Each step is a read of its own, so that other reads can
                # run between two steps.
                await self._reader.run(last.step)
            start = last.start
        return OutputRange(extent, stream, start, None, size)

    async def read(self, wanted: OutputRange) -> AsyncIterator[bytes]:
        """Yield those bytes of a range that were stored when the range was requested.

        Raises:
            StreamCutError: some of these bytes have been removed or are damaged.
        """
        position = wanted.start
        end = wanted.size if wanted.end is None else min(wanted.end, wanted.size)
        while position < end:
            try:
                data = await self._reader.run(
                    output_store.read,
                    wanted.extent.number,
                    wanted.stream,
                    position,
                    min(end, position + READ_BYTES),
                )
            except DamagedOutputError as error:
                log_damage(error)
                raise StreamCutError from error
            if not data:
                raise StreamCutError
            position += len(data)
            yield data

    async def follow(self, command_id: str, wanted: OutputRange) -> AsyncIterator[bytes]:
        """Yield the bytes of a range as they are stored, until the range or the command ends.

        Raises:
            StreamCutError: the server ends, the command was deleted, or its output is damaged.
        """
        identifier = parse_command_id(command_id)
        position = wanted.start
        with self._notifier.subscribe(identifier, FollowerKind.OUTPUT) as subscription:
            while wanted.end is None or position < wanted.end:
                # Clear the event before the read, so that a commit during the read sets it again.
                subscription.clear()
                # Read this flag before the output. If the flag is set, the read below finds
                # everything that was committed before the server began to end. All of it is still
                # sent.
                closing = self._notifier.closing
                end = position + READ_BYTES if wanted.end is None else wanted.end
                try:
                    output = await until_stored(
                        partial(self._cache.read, identifier, wanted.stream, position, end),
                        None,  # the failure is logged once elsewhere, not for each follower
                        unless=lambda: self._notifier.closing,
                    )
                except DamagedOutputError as error:
                    log_damage(error)
                    raise StreamCutError from error
                except (UnknownCommandError, StoreError) as error:
                    raise StreamCutError from error
                if output.data:
                    position += len(output.data)
                    yield output.data
                if output.finished:
                    return
                if output.data:
                    continue
                if closing:
                    raise StreamCutError
                await subscription.wait()


def log_damage(error: DamagedOutputError) -> None:
    """Log that output cannot be read; a stream that has begun cannot tell its client the reason."""
    log.error("output_damaged", command_id=str(error.command_id), error=str(error))
