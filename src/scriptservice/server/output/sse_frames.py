"""Server-Sent Events made by hand: ready bytes for a plain stream, text where it is text.

Pure: stored chunks in, frames out. An event is one stream and one contiguous range of positions;
its id is the position after it.
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
"""Pieces of one character are one character if they were read within this time."""

_STREAM_NAMES = {1: "stdout", 2: "stderr"}
_LONGEST_REST = 3


@dataclass(frozen=True, slots=True)
class OutputFrames:
    """Output as frames.

    Attributes:
        data: ready to be sent; may be empty.
        position: after what the frames hold: where to go on.
        held_bytes: bytes after it that were held back, since the rest of their character may come.
    """

    data: bytes
    position: int
    held_bytes: int


def command_frame(event: str, command: Command, position: int) -> bytes:
    """Return a ``status`` or ``end`` event.

    Args:
        event: which.
        command: as it is.
        position: where its output is; the id.
    """
    view = command_view(command)
    del view["script"]
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (position, event.encode(), to_json(view))


def output_frames(chunks: Iterable[Chunk], position: int, *, hold: bool) -> OutputFrames:
    """Return stored output as frames.

    Args:
        chunks: in order of position, without gaps, from ``position`` on.
        position: the first byte's.
        hold: whether more may come, so that a character which is cut off at the end waits.
    """
    pieces = list(_coalesced(chunks))
    rest = _unfinished(pieces[-1].data) if pieces and hold else 0
    if rest:
        kept = pieces[-1].data[:-rest]
        pieces[-1:] = [replace(pieces[-1], data=kept)] if kept else []
    frames = [_frame(part) for piece in pieces for part in _decodable(piece)]
    if pieces:
        position = pieces[-1].position + len(pieces[-1].data)
    return OutputFrames(b"".join(frames), position, rest)


def _coalesced(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield chunks, those of one stream that were read in quick succession as one."""
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


def _unfinished(data: bytes) -> int:
    """Return how many bytes at the end begin a character of UTF-8 that is not complete."""
    for length in range(1, min(_LONGEST_REST, len(data)) + 1):
        byte = data[-length]
        if byte >= 0xC2:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return length if byte <= 0xF4 and length < needed else 0
        if byte < 0x80:
            return 0
    return 0


def _decodable(piece: Chunk) -> Iterator[Chunk]:
    """Yield a piece in as few parts as make what is text readable as text.

    The rest of a character at its beginning, and the beginning of one at its end, are parts of
    their own; what is not UTF-8 in between makes all of it bytes.
    """
    data = piece.data
    begin = 0
    while begin < min(_LONGEST_REST, len(data)) and data[begin] & 0xC0 == 0x80:
        begin += 1
    end = len(data) - _unfinished(data[begin:])
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
