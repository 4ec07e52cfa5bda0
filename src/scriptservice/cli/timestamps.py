"""Output with the time in front of each line, for ``scriptservice logs --timestamps``."""

from collections import deque
from collections.abc import Iterator

from scriptservice.client import Chunk, Client


def chunks_of(
    client: Client, command_id: str, stream: str, *, follow: bool
) -> Iterator[tuple[Chunk, bool]]:
    """Yield the output of a command, and for each chunk whether it was stored before this call.

    Args:
        client: reads the output.
        command_id: id of the command.
        stream: ``stdout``, ``stderr`` or ``merged``.
        follow: whether to go on until the command has finished.
    """
    stored = client.get(command_id).output["bytes"]
    if stored == 0 and not follow:
        return
    for chunk in client.follow(command_id):
        if stream in (chunk.stream, "merged"):
            yield chunk, chunk.position < stored
        if not follow and chunk.end >= stored:
            return


def stamped_output(chunks: Iterator[tuple[Chunk, bool]], tail: int | None) -> Iterator[bytes]:
    """Yield output with the time in front of each line.

    Args:
        chunks: the output, from `chunks_of`.
        tail: how many lines to yield of the output that was stored before; None for all.
    """
    stamps = LineStamps()
    last = TailLines(tail)
    for chunk, was_stored in chunks:
        data = stamps.stamp(chunk)
        if was_stored and tail is not None:
            last.add(data)
        else:
            yield last.take() + data
    yield last.take()


class LineStamps:
    """Puts in front of each line the time at which the line began.

    If the other stream interrupts an unfinished line, the rest of the line becomes a line of its
    own.
    """

    def __init__(self) -> None:
        self._unfinished: str | None = None  # the stream whose last line has not ended

    def stamp(self, chunk: Chunk) -> bytes:
        """Return the bytes of a chunk with the time in front of each line.

        Args:
            chunk: the output. Its time is when the keeper read it.
        """
        stamp = chunk.time.isoformat(timespec="milliseconds").replace("+00:00", "Z ").encode()
        pieces = []
        if self._unfinished not in (None, chunk.stream):
            pieces.append(b"\n")
            self._unfinished = None
        for line in _lines(chunk.data):
            pieces += [line] if self._unfinished else [stamp, line]
            self._unfinished = None if line.endswith(b"\n") else chunk.stream
        return b"".join(pieces)


class TailLines:
    """Keeps the last lines of the output that is added.

    Args:
        count: how many lines to keep; None if the caller will add nothing.
    """

    def __init__(self, count: int | None) -> None:
        self._lines: deque[bytes] = deque(maxlen=count or 0)
        self._is_unfinished = False

    def add(self, data: bytes) -> None:
        """Take further bytes."""
        for line in _lines(data):
            if self._is_unfinished and self._lines:
                self._lines[-1] += line
            else:
                self._lines.append(line)
            self._is_unfinished = not line.endswith(b"\n")

    def take(self) -> bytes:
        """Return the lines that were kept, and forget them."""
        kept = b"".join(self._lines)
        self._lines.clear()
        return kept


def _lines(data: bytes) -> list[bytes]:
    """Return bytes split after each newline; `splitlines` would also split at other characters."""
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
