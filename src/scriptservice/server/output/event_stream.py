"""A command's event stream: its status, its output, its end, from any position on.

Followers read the store by position after they are woken; nothing is kept for them. Those who
wait at the same place at the same moment share one read.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from scriptservice.errors import FieldError, StoreError, UnknownCommandError, ValidationError
from scriptservice.model import Command, Status
from scriptservice.server.commands.command_service import command_id
from scriptservice.server.commands.notifier import FollowerKind, Notifier
from scriptservice.server.output.sse_frames import (
    ADJACENT_MICROSECONDS,
    COMMENT,
    RETRY,
    OutputFrames,
    command_frame,
    output_frames,
)
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import output as output_store
from scriptservice.store.queries.journal_changes import Chunk
from scriptservice.store.reader import Reader

PART_BYTES = 32 << 10
COMMENT_SECONDS = 15.0
COALESCE_SECONDS = 0.01
STORE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class _News:
    """What is new since a position.

    Attributes:
        command: None while its status is the one that is known; without its script.
        final: the same once it is final and this is all of its output.
        chunks: output from the position on, a bounded part.
        end: position behind all stored output.
        finished: whether its status is final.
    """

    command: Command | None
    final: Command | None
    chunks: tuple[Chunk, ...]
    end: int
    finished: bool


class EventStreams:
    """Makes event streams.

    Args:
        reader: of the store.
        feed: wakes.
    """

    def __init__(self, reader: Reader, feed: Notifier) -> None:
        self._reader = reader
        self._feed = feed
        self._reading: dict[tuple[int, UUID, Status | None, int], asyncio.Future[_News]] = {}

    async def stream(self, command: str, after: int, asked_by: str) -> AsyncIterator[bytes]:
        """Return a command's event stream from a position on.

        Args:
            command: its id.
            after: the position.
            asked_by: the field that says so.

        Raises:
            UnknownCommandError: there is no command of that id.
            ValidationError: the position lies beyond its output.
        """
        identifier = command_id(command)
        extent = await self._reader.run(command_store.extent, identifier)
        if after > extent.stdout_bytes + extent.stderr_bytes:
            raise ValidationError(FieldError(asked_by, "lies beyond the output"))
        return self._frames(identifier, after)

    async def _frames(self, command: UUID, position: int) -> AsyncIterator[bytes]:
        """Yield frames from a position on until the end, or until the server or the command goes.

        Args:
            command: whose.
            position: of the first byte of output that is wanted.
        """
        place = _Place(position)
        yield RETRY
        with self._feed.subscription(command, FollowerKind.EVENTS) as wake:
            while not place.ended:
                # Before reading: what is committed after this wakes us again.
                wake.clear()
                try:
                    news = await self._read(command, place.status, place.position)
                except UnknownCommandError:
                    return
                except StoreError:
                    if self._feed.closing:
                        return
                    yield COMMENT
                    await asyncio.sleep(STORE_SECONDS)  # it goes on when the database is back
                    continue
                if data := place.advance(news):
                    yield data
                if self._feed.closing:
                    return
                if place.ended or place.position + place.held_bytes < news.end:
                    continue
                if not await _woken(wake, place.patience()):
                    if not place.held_bytes:
                        yield COMMENT
                elif data:
                    # More is likely to follow at once: together it is fewer, larger events.
                    await asyncio.sleep(COALESCE_SECONDS)

    async def _read(self, command: UUID, status: Status | None, position: int) -> _News:
        """Return what is new; those who ask the same at the same time share the answer."""
        # One that began before the last news may not see it, and who was woken by that news is
        # not woken again.
        key = (self._feed.changes, command, status, position)
        reading = self._reading.get(key)
        if reading is None:
            reading = asyncio.ensure_future(self._reader.run(_news, command, status, position))
            self._reading[key] = reading
            reading.add_done_callback(lambda _: self._reading.pop(key, None))
        return await asyncio.shield(reading)


class _Place:
    """Where one follower is, and what it has been told.

    Args:
        position: of the first byte it wants.
    """

    def __init__(self, position: int) -> None:
        self.position = position
        self.status: Status | None = None
        self.ended = False
        self.held_bytes = 0
        self._hold_until: float | None = None
        self._clock = asyncio.get_running_loop().time

    def advance(self, news: _News) -> bytes:
        """Return the frames that tell what is new, and be where they end."""
        parts: list[bytes] = []
        if news.command is not None and (self.status is None or not news.finished):
            parts.append(command_frame("status", news.command, self.position))
        frames = output_frames(news.chunks, self.position, hold=self._may_hold(news))
        parts.append(frames.data)
        self._hold(frames, news)
        if news.finished and self.position >= news.end and news.final is not None:
            if self.status not in (None, news.final.status):
                parts.append(command_frame("status", news.final, self.position))
            parts.append(command_frame("end", news.final, self.position))
            self.ended = True
        elif news.command is not None and (self.status is None or not news.finished):
            self.status = news.command.status
        return b"".join(parts)

    def _may_hold(self, news: _News) -> bool:
        """Whether the beginning of a character may wait for its rest."""
        read_to = news.chunks[-1].position + len(news.chunks[-1].data) if news.chunks else 0
        if read_to < news.end:
            return True
        expired = self._hold_until is not None and self._clock() >= self._hold_until
        return not news.finished and not expired

    def _hold(self, frames: OutputFrames, news: _News) -> None:
        if frames.position > self.position or not frames.held_bytes:
            self._hold_until = None
        self.position, self.held_bytes = frames.position, frames.held_bytes
        waits = self.held_bytes and self.position + self.held_bytes >= news.end
        if waits and self._hold_until is None:
            self._hold_until = self._clock() + ADJACENT_MICROSECONDS / 1e6

    def patience(self) -> float:
        """Return for how many seconds nothing need be said."""
        if self._hold_until is None:
            return COMMENT_SECONDS
        return max(0.0, self._hold_until - self._clock())


async def _woken(wake: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        return False
    return True


def _news(connection: Connection, command: UUID, status: Status | None, position: int) -> _News:
    extent = command_store.extent(connection, command)
    end = extent.stdout_bytes + extent.stderr_bytes
    chunks = output_store.chunks(connection, extent.number, position, position + PART_BYTES)
    read_to = chunks[-1].position + len(chunks[-1].data) if chunks else position
    last = extent.finished and read_to >= end
    changed = status is not extent.status
    found: Command | None = None
    if changed or last:
        found = command_store.find_without_script(connection, command)
    return _News(
        command=found if changed else None,
        final=found if last else None,
        chunks=tuple(chunks),
        end=end,
        finished=extent.finished,
    )
