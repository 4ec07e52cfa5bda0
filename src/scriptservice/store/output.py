"""Output in the database: chunks by position, read by offset of either stream or of both.

A chunk is one stream and one contiguous range of positions, at most `CHUNK_BYTES` long.
"""

from sqlalchemy import Column, Connection, func, select

from scriptservice.model import Stream
from scriptservice.store.recording import Chunk
from scriptservice.store.tables import output

CHUNK_BYTES = 256 << 10
STREAM_NUMBERS = {Stream.STDOUT: 1, Stream.STDERR: 2}

_LOOK_BACK_BYTES = 64 << 10


def _key(stream: Stream) -> Column[int]:
    return output.c.position if stream is Stream.MERGED else output.c.stream_offset


def read(connection: Connection, number: int, stream: Stream, start: int, end: int) -> bytes:
    """Return the bytes of a range of one stream, or of both in the order they were read.

    Args:
        connection: to read from.
        number: the command's.
        stream: whose offsets are meant.
        start: the first byte's offset.
        end: the offset behind the last byte.

    Returns:
        As much of the range as is stored, from its start on; the caller bounds its size.
    """
    if end <= start:
        return b""
    key = _key(stream)
    mine = [output.c.number == number]
    if stream is not Stream.MERGED:
        mine.append(output.c.stream == STREAM_NUMBERS[stream])
    first = select(func.max(key)).where(*mine, key <= start).scalar_subquery()
    query = select(key, output.c.data).where(*mine, key >= first, key < end).order_by(key)
    parts: list[bytes] = []
    at = start
    for offset, data in connection.execute(query):
        if offset > at:
            break  # what would follow is not stored; bytes after a gap are other bytes
        part = data[at - offset : end - offset]
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def chunks(connection: Connection, number: int, start: int, end: int) -> list[Chunk]:
    """Return the chunks of both streams in a range of positions, cut to it.

    Args:
        connection: to read from.
        number: the command's.
        start: the first byte's position.
        end: the position behind the last byte; the caller bounds what lies between.

    Returns:
        In order and without gaps, from the start on.
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
        data = row.data[skipped : end - row.position]
        if data:
            found.append(Chunk(number, at, row.stream, row.stream_offset + skipped, row.time, data))
        at += len(data)
    return found


def start_of_last_lines(
    connection: Connection, number: int, stream: Stream, end: int, lines: int
) -> int:
    """Return the offset at which the last so many lines of a stream begin.

    Args:
        connection: to read from.
        number: the command's.
        stream: whose lines.
        end: the offset behind its last byte.
        lines: how many; an unfinished last line is one.
    """
    if lines == 0 or end == 0:
        return end
    wanted = lines
    if read(connection, number, stream, end - 1, end) == b"\n":
        wanted += 1  # that one ends the last line; it does not begin another
    at = end
    step = _LOOK_BACK_BYTES
    while at > 0:
        start = max(0, at - step)
        data = read(connection, number, stream, start, at)
        found = data.count(b"\n")
        if found >= wanted:
            cut = len(data)
            for _ in range(wanted):
                cut = data.rindex(b"\n", 0, cut)
            return start + cut + 1
        wanted -= found
        at = start
        step = min(step * 2, 1 << 20)
    return 0
