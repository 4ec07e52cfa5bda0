"""Reads ranges of the output of commands, which is stored in chunks.

A chunk is a contiguous range of one stream, at most `CHUNK_BYTES` long. The merged output has the
bytes of both streams in the order in which the keeper read them. A chunk's position is the offset
of the chunk's first byte in the merged output. Its stream offset is the offset of the same byte in
the chunk's own stream.

A chunk may be stored compressed. Each chunk is compressed by itself, so any part of a large output
can be read without the parts before it. All offsets and sizes are those of the bytes as printed.
"""

from dataclasses import dataclass

from sqlalchemy import Column, Connection, func, select

from scriptservice.errors import DamagedOutputError
from scriptservice.model import Stream
from scriptservice.store.compression import MAX_BYTES, ZSTD, DamagedFrameError, decompress
from scriptservice.store.database.tables import commands, output
from scriptservice.store.queries.journal_changes import Chunk

CHUNK_BYTES = MAX_BYTES
STREAM_NUMBERS = {Stream.STDOUT: 1, Stream.STDERR: 2}

_LOOK_BACK_BYTES = 64 << 10


def _key(stream: Stream) -> Column[int]:
    return output.c.position if stream is Stream.MERGED else output.c.stream_offset


def read(connection: Connection, number: int, stream: Stream, start: int, end: int) -> bytes:
    """Return the bytes of a range of one stream or of the merged output.

    Args:
        connection: connection to read from.
        number: number of the command.
        stream: the stream to read; the offsets count the bytes of this stream.
        start: offset of the first byte.
        end: offset behind the last byte; the caller bounds the size of the range.

    Returns:
        The stored bytes from ``start`` on. If a byte of the range is not stored, the result ends
        before that byte.

    Raises:
        DamagedOutputError: a compressed chunk of the range is damaged.
    """
    if end <= start:
        return b""
    key = _key(stream)
    mine = [output.c.number == number]
    if stream is not Stream.MERGED:
        mine.append(output.c.stream == STREAM_NUMBERS[stream])
    first = select(func.max(key)).where(*mine, key <= start).scalar_subquery()
    columns = (key, output.c.position, output.c.data, output.c.compression)
    query = select(*columns).where(*mine, key >= first, key < end).order_by(key)
    parts: list[bytes] = []
    at = start
    for offset, position, stored, compression in connection.execute(query):
        if offset > at:
            break  # the bytes between `at` and this chunk are not stored
        data = stored
        if compression is not None:
            data = _decompressed(connection, number, position, stored, compression)
        part = data[at - offset : end - offset]
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def chunks(connection: Connection, number: int, start: int, end: int) -> list[Chunk]:
    """Return the chunks of both streams in a range of positions.

    The first chunk is cut so that it starts at ``start``, and the last so that it stops at ``end``.

    Args:
        connection: connection to read from.
        number: number of the command.
        start: position of the first byte.
        end: position behind the last byte; the caller bounds the size of the range.

    Returns:
        The chunks from ``start`` on, in order, without gaps and not compressed.

    Raises:
        DamagedOutputError: a compressed chunk of the range is damaged.
    """
    mine = output.c.number == number
    first = select(func.max(output.c.position)).where(mine, output.c.position <= start)
    query = (
        select(output)
        .where(mine, output.c.position >= first.scalar_subquery(), output.c.position < end)
        .order_by(output.c.position)
    )
    found: list[Chunk] = []
    at = start
    for row in connection.execute(query):
        if row.position > at:
            break
        skipped = at - row.position
        data = row.data
        if row.compression is not None:
            data = _decompressed(connection, number, row.position, data, row.compression)
        data = data[skipped : end - row.position]
        if data:
            found.append(Chunk(number, at, row.stream, row.stream_offset + skipped, row.time, data))
        at += len(data)
    return found


def _decompressed(
    connection: Connection, number: int, position: int, data: bytes, compression: int
) -> bytes:
    """Return the bytes of a compressed chunk as they were printed.

    Args:
        connection: connection to read from.
        number: number of the command.
        position: position of the chunk.
        data: the compressed bytes.
        compression: value of the column of that name.

    Raises:
        DamagedOutputError: the chunk is damaged.
    """
    try:
        if compression != ZSTD:
            message = f"its compression is {compression}"
            raise DamagedFrameError(message)
        return decompress(data)
    except DamagedFrameError as error:
        query = select(commands.c.id).where(commands.c.number == number)
        command_id = connection.execute(query).scalar()
        raise DamagedOutputError(command_id, position, str(error)) from error


@dataclass(slots=True)
class LastLines:
    """Searches backwards for the offset at which the last lines of a stream begin.

    The search may have to read a gigabyte. Each `step` reads at most a mebibyte, so that the caller
    can let other work run between two steps.

    Attributes:
        number: number of the command.
        stream: the stream to search.
        at: offset down to which the stream has been searched; at first the offset behind the
            stream's last byte.
        wanted: number of lines that are still to be found; a last line without a newline counts as
            a line.
        start: offset at which the last lines begin; None until the search has found it.
    """

    number: int
    stream: Stream
    at: int
    wanted: int
    start: int | None = None
    _step_bytes: int = 0

    def step(self, connection: Connection) -> None:
        """Search the next part, towards the beginning of the stream.

        Raises:
            DamagedOutputError: a compressed chunk of this part is damaged.
        """
        if self.wanted == 0 or self.at == 0:
            self.start = self.at
            return
        if self._step_bytes == 0:
            self._step_bytes = _LOOK_BACK_BYTES
            if read(connection, self.number, self.stream, self.at - 1, self.at) == b"\n":
                self.wanted += 1  # no line begins after this newline, so it must not count
        start = max(0, self.at - self._step_bytes)
        data = read(connection, self.number, self.stream, start, self.at)
        found = data.count(b"\n")
        if found >= self.wanted:
            cut = len(data)
            for _ in range(self.wanted):
                cut = data.rindex(b"\n", 0, cut)
            self.start = start + cut + 1
            return
        self.wanted -= found
        self.at = start
        self._step_bytes = min(self._step_bytes * 2, 1 << 20)
