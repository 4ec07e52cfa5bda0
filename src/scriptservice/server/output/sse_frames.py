"""Encodes commands and output as Server-Sent Events.

The functions are pure: they turn stored chunks into bytes. An output event holds one contiguous
range of one stream. The event's id is the position after that range. Output that is UTF-8 is sent
as text, other output as base64.
"""

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from scriptservice.model import Command
from scriptservice.server.http.command_json import command_view, time_text, to_json
from scriptservice.store.queries.journal_changes import Chunk

RETRY = b"retry: 1000\n\n"
COMMENT = b": still here\n\n"
ADJACENT_MICROSECONDS = 50_000
"""The keeper may read the bytes of a character in two parts. If at most this time lies between the
two reads, the parts are sent together."""

_STREAM_NAMES = {1: "stdout", 2: "stderr"}
_MAX_PARTIAL_BYTES = 3
"""An incomplete character of UTF-8 has at most this many bytes."""


@dataclass(frozen=True, slots=True)
class OutputFrames:
    """Output, encoded as events.

    Attributes:
        data: the bytes of the events; may be empty.
        position: position after the output in ``data``.
        held_bytes: number of bytes after ``position`` that were held back, because the rest of
            their character may still come.
    """

    data: bytes
    position: int
    held_bytes: int


def command_frame(event: str, command: Command, position: int) -> bytes:
    """Return a ``status`` or ``end`` event.

    Args:
        event: ``status`` or ``end``.
        command: the command; its script is left out.
        position: position after the output that was sent so far. It is also the event's id.
    """
    view = command_view(command)
    del view["script"]
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (position, event.encode(), to_json(view))


def output_frames(chunks: Iterable[Chunk], position: int, *, hold: bool) -> OutputFrames:
    """Return stored output as events.

    Args:
        chunks: stored output in order of position, without gaps, from ``position`` on.
        position: position of the first byte.
        hold: whether to hold back an incomplete character at the end, because its other bytes may
            still come.
    """
    pieces = list(_coalesce(chunks))
    held_bytes = _partial_length(pieces[-1].data) if pieces and hold else 0
    if held_bytes:
        complete = pieces[-1].data[:-held_bytes]
        pieces[-1:] = [replace(pieces[-1], data=complete)] if complete else []
    frames = [_frame(part) for piece in pieces for part in _split_by_encoding(piece)]
    if pieces:
        position = pieces[-1].position + len(pieces[-1].data)
    return OutputFrames(b"".join(frames), position, held_bytes)


def _coalesce(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield chunks; join successive chunks of one stream if they were read at nearly the same time.

    A chunk is joined to the one before if at most `ADJACENT_MICROSECONDS` lie between their reads.
    """
    parts: list[bytes] = []
    first: Chunk | None = None
    last_time = 0
    for chunk in chunks:
        adjacent = first is not None and chunk.time - last_time <= ADJACENT_MICROSECONDS
        if first is not None and (not adjacent or chunk.stream != first.stream):
            yield replace(first, data=b"".join(parts))
            first, parts = None, []
        if first is None:
            first = chunk
        parts.append(chunk.data)
        last_time = chunk.time
    if first is not None:
        yield replace(first, data=b"".join(parts))


def _partial_length(data: bytes) -> int:
    """Return the length of an incomplete UTF-8 character at the end, 0 if the end is complete."""
    for length in range(1, min(_MAX_PARTIAL_BYTES, len(data)) + 1):
        byte = data[-length]
        if byte >= 0xC2:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return length if byte <= 0xF4 and length < needed else 0
        if byte < 0x80:
            return 0
    return 0


def _split_by_encoding(piece: Chunk) -> Iterator[Chunk]:
    """Split a piece into at most three parts, so that as much as possible can be sent as text.

    A piece may begin with the last bytes of one character and end with the first bytes of another
    character. Each of these two incomplete characters becomes a part of its own. If the bytes
    between them are not UTF-8, the piece is not split.
    """
    data = piece.data
    begin = 0
    while begin < min(_MAX_PARTIAL_BYTES, len(data)) and data[begin] & 0xC0 == 0x80:
        begin += 1
    end = len(data) - _partial_length(data[begin:])
    try:
        data[begin:end].decode()
    except UnicodeDecodeError:
        begin, end = 0, len(data)
    for start, stop in ((0, begin), (begin, end), (end, len(data))):
        if stop > start:
            yield replace(
                piece,
                position=piece.position + start,
                stream_offset=piece.stream_offset + start,
                data=data[start:stop],
            )


def _frame(part: Chunk) -> bytes:
    members: dict[str, object] = {
        "stream": _STREAM_NAMES[part.stream],
        "position": part.position,
        "stream_offset": part.stream_offset,
        "time": time_text(part.time),
    }
    try:
        members["text"] = part.data.decode()
    except UnicodeDecodeError:
        members["base64"] = base64.b64encode(part.data).decode()
    end = part.position + len(part.data)
    return b"id: %d\nevent: output\ndata: %s\n\n" % (end, to_json(members))
