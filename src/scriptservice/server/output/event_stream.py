"""A command's event stream: its status, its output and its end, from any position on.

A follower is one client's event stream. When a follower is woken, it reads the database from its
position on. No output is kept in memory for a follower. Followers that are at the same position at
the same time share one read.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from scriptservice.errors import (
    DamagedOutputError,
    FieldError,
    StoreError,
    UnknownCommandError,
    ValidationError,
)
from scriptservice.model import Command, Status
from scriptservice.server.commands.command_service import parse_command_id
from scriptservice.server.commands.notifier import FollowerKind, Notifier
from scriptservice.server.output.output_service import log_damage
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

READ_BYTES = 32 << 10
COMMENT_SECONDS = 15.0
COALESCE_SECONDS = 0.01
PAUSE_SECONDS = 0.5
"""Pause between two reads while the database does not answer."""


@dataclass(frozen=True, slots=True)
class _Update:
    """What has changed since a follower's position and status.

    Attributes:
        command: the command without its script; None if its status has not changed.
        final: the command without its script, if its status is final and ``chunks`` contains the
            rest of its output; otherwise None.
        chunks: output from the position on, at most about `READ_BYTES`.
        end: position after all stored output.
        finished: whether the command's status is final.
    """

    command: Command | None
    final: Command | None
    chunks: tuple[Chunk, ...]
    end: int
    finished: bool


class EventStreams:
    """Makes event streams.

    Args:
        reader: reads from the database.
        notifier: wakes followers.
    """

    def __init__(self, reader: Reader, notifier: Notifier) -> None:
        self._reader = reader
        self._notifier = notifier
        self._reading: dict[tuple[int, UUID, Status | None, int], asyncio.Future[_Update]] = {}

    async def stream(self, command_id: str, after: int, field: str) -> AsyncIterator[bytes]:
        """Return a command's event stream from a position on.

        Args:
            command_id: the command's id.
            after: position in the merged output at which the stream begins.
            field: name of the parameter or header that gave the position, for the error message.

        Raises:
            UnknownCommandError: there is no command with this id.
            ValidationError: the position lies beyond the command's output.
        """
        identifier = parse_command_id(command_id)
        extent = await self._reader.run(command_store.find_extent, identifier)
        if after > extent.stdout_bytes + extent.stderr_bytes:
            raise ValidationError(FieldError(field, "is beyond the end of the output"))
        return self._frames(identifier, after)

    async def _frames(self, command_id: UUID, position: int) -> AsyncIterator[bytes]:
        """Yield frames from a position on, until the command or the server ends.

        Args:
            command_id: the command.
            position: position of the first byte of output that is wanted.
        """
        follower = _FollowerState(position)
        yield RETRY
        with self._notifier.subscribe(command_id, FollowerKind.EVENTS) as subscription:
            while not follower.ended:
                # Clear the event before the read, so that a commit during the read sets it again.
                subscription.clear()
                # Read this flag before the output. If the flag is set, the read below finds
                # everything that was committed before the server began to end. All of it is still
                # sent, for example the end of a command that the shutdown has stopped.
                closing = self._notifier.closing
                try:
                    update = await self._read(command_id, follower.status, follower.position)
                except UnknownCommandError:
                    return
                except DamagedOutputError as error:
                    log_damage(error)
                    return
                except StoreError:
                    if self._notifier.closing:
                        return
                    yield COMMENT
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                if data := follower.advance(update):
                    yield data
                if closing:
                    return
                if follower.ended or follower.position + follower.held_bytes < update.end:
                    continue
                if not await _is_set_within(subscription, follower.idle_seconds()):
                    if not follower.held_bytes:
                        yield COMMENT
                elif data:
                    # More output will probably come soon. Wait, to send it in fewer events.
                    await asyncio.sleep(COALESCE_SECONDS)

    async def _read(self, command_id: UUID, status: Status | None, position: int) -> _Update:
        """Return what has changed; followers with the same status and position share one read."""
        # Share only a read that began after the last notification. An earlier read may have missed
        # the change that caused the notification. Then the follower would miss the change too,
        # because no second notification wakes it.
        key = (self._notifier.changes, command_id, status, position)
        reading = self._reading.get(key)
        if reading is None:
            reading = asyncio.ensure_future(
                self._reader.run(_read_update, command_id, status, position)
            )
            self._reading[key] = reading
            reading.add_done_callback(lambda _: self._reading.pop(key, None))
        return await asyncio.shield(reading)


class _FollowerState:
    """What has been sent to one follower.

    Args:
        position: position of the first byte that the follower wants.

    Attributes:
        position: position after the output that was sent.
        status: the status that was sent last, None before the first status event.
        ended: whether the ``end`` event was sent.
        held_bytes: number of bytes after the position that are held back, because they are only the
            beginning of a character.
    """

    def __init__(self, position: int) -> None:
        self.position = position
        self.status: Status | None = None
        self.ended = False
        self.held_bytes = 0
        self._hold_until: float | None = None
        self._clock = asyncio.get_running_loop().time

    def advance(self, update: _Update) -> bytes:
        """Return the frames for an update, and move the position to the end of their output."""
        frames: list[bytes] = []
        if update.command is not None and (self.status is None or not update.finished):
            frames.append(command_frame("status", update.command, self.position))
        output = output_frames(update.chunks, self.position, hold=self._may_hold(update))
        frames.append(output.data)
        self._hold(output, update)
        if update.finished and self.position >= update.end and update.final is not None:
            if self.status not in (None, update.final.status):
                frames.append(command_frame("status", update.final, self.position))
            frames.append(command_frame("end", update.final, self.position))
            self.ended = True
        elif update.command is not None and (self.status is None or not update.finished):
            self.status = update.command.status
        return b"".join(frames)

    def _may_hold(self, update: _Update) -> bool:
        """Return whether to hold back an incomplete character at the end of an update."""
        chunks = update.chunks
        read_to = chunks[-1].position + len(chunks[-1].data) if chunks else 0
        if read_to < update.end:
            return True
        expired = self._hold_until is not None and self._clock() >= self._hold_until
        return not update.finished and not expired

    def _hold(self, output: OutputFrames, update: _Update) -> None:
        if output.position > self.position or not output.held_bytes:
            self._hold_until = None
        self.position, self.held_bytes = output.position, output.held_bytes
        waits = self.held_bytes and self.position + self.held_bytes >= update.end
        if waits and self._hold_until is None:
            self._hold_until = self._clock() + ADJACENT_MICROSECONDS / 1e6

    def idle_seconds(self) -> float:
        """Return how many seconds to wait for a change of the command.

        If no change comes in this time, held bytes or a comment are sent.
        """
        if self._hold_until is None:
            return COMMENT_SECONDS
        return max(0.0, self._hold_until - self._clock())


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _read_update(
    connection: Connection, command_id: UUID, status: Status | None, position: int
) -> _Update:
    extent = command_store.find_extent(connection, command_id)
    end = extent.stdout_bytes + extent.stderr_bytes
    chunks = output_store.chunks(connection, extent.number, position, position + READ_BYTES)
    read_to = chunks[-1].position + len(chunks[-1].data) if chunks else position
    last = extent.finished and read_to >= end
    changed = status is not extent.status
    command: Command | None = None
    if changed or last:
        command = command_store.find_without_script(connection, command_id)
    return _Update(
        command=command if changed else None,
        final=command if last else None,
        chunks=tuple(chunks),
        end=end,
        finished=extent.finished,
    )
