"""Streams that continue when their connection breaks.

A reader knows how far it has read its stream, but it does no network I/O. `Client` and
`AsyncClient` open a connection with the `request` of a reader, and pass the bytes that arrive to
the reader's `feed`. If the connection breaks, they open the next connection in the same way.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

import httpx2 as httpx

from scriptservice.client.exchanges import command_path
from scriptservice.client.problems import ConnectionLostError, UnexpectedAnswerError
from scriptservice.client.types import Command

Piece_co = TypeVar("Piece_co", covariant=True)

MAX_EVENT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """A contiguous piece of a command's stdout or stderr.

    Attributes:
        stream: ``stdout`` or ``stderr``.
        position: offset of the chunk's first byte in the merged output.
        stream_offset: offset of the chunk's first byte in ``stream``.
        time: when the keeper read this output from the script, in UTC.
        data: the bytes of the output.
    """

    stream: str
    position: int
    stream_offset: int
    time: datetime
    data: bytes

    @property
    def end(self) -> int:
        """The position after the chunk's last byte. The next chunk begins at this position."""
        return self.position + len(self.data)


class EventParser:
    """Splits an event stream into events; the stream may arrive in pieces of any size."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[str, str]]:
        """Take the next bytes; yield the name and the data of each event that is now complete.

        Raises:
            UnexpectedAnswerError: an event is longer than `MAX_EVENT_BYTES`, or not UTF-8.
        """
        self._rest += data
        if len(self._rest) > MAX_EVENT_BYTES:
            message = "cannot understand the event stream: an event does not end"
            raise UnexpectedAnswerError(message)
        *frames, self._rest = self._rest.split(b"\n\n")
        for frame in frames:
            name, lines = "message", []
            for line in _text(frame).split("\n"):
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    lines.append(value)
            if lines:
                yield name, "\n".join(lines)


def _text(frame: bytes) -> str:
    try:
        return frame.decode()
    except UnicodeDecodeError as error:
        message = "cannot understand the event stream: it is not UTF-8"
        raise UnexpectedAnswerError(message) from error


class StreamReader(Protocol[Piece_co]):
    """Reads one stream of the service, over several connections if a connection breaks.

    Attributes:
        command_id: id of the command whose output is read.
        ended: whether the stream is complete.
        heard: whether a part of this stream has arrived on the current connection.
    """

    command_id: str
    ended: bool
    heard: bool

    def request(self) -> dict[str, Any]:
        """Return the arguments of httpx's ``stream`` to open the next connection.

        If the previous connection broke within an event, this call drops the incomplete event.
        """

    def accepts(self, response: httpx.Response) -> bool:
        """Return whether a response is the stream, not a refusal or a page of another program.

        Args:
            response: the response. Only its headers have been read.
        """

    def feed(self, data: bytes) -> Iterator[Piece_co]:
        """Take the next bytes of the stream; yield the pieces that are now complete."""

    def closed(self) -> None:
        """Handle that the service has closed the connection without an error.

        Raises:
            ConnectionLostError: the stream is not complete.
        """


class EventReader:
    """Reads the event stream of a command, and yields the output of the command.

    Attributes:
        position: position in the merged output after the last chunk that was received.
        command: the command as the last ``status`` or ``end`` event described it; None before the
            first of these events.

    Args:
        command_id: id of the command.
        after: position in the merged output at which to begin.
    """

    def __init__(self, command_id: str, after: int) -> None:
        self.command_id = command_id
        self.position = after
        self.command: Command | None = None
        self.ended = False
        self.heard = False
        self._parser = EventParser()

    def request(self) -> dict[str, Any]:
        """See `StreamReader.request`."""
        self.heard = False
        self._parser = EventParser()
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.position)}
        return {"method": "GET", "url": command_path(self.command_id, "events"), "headers": headers}

    def accepts(self, response: httpx.Response) -> bool:
        """See `StreamReader.accepts`."""
        content_type = response.headers.get("content-type", "")
        return response.status_code == 200 and content_type.startswith("text/event-stream")

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """Take the next bytes of the stream; yield the output events that are now complete.

        A ``status`` or ``end`` event changes ``command``.

        Raises:
            UnexpectedAnswerError: the bytes are not an event stream of the service, or the next
                output does not begin at ``position``.
        """
        for name, text in self._parser.feed(data):
            event = _event(name, text)
            self.heard = True
            if isinstance(event, Chunk):
                if event.position != self.position:
                    message = (
                        f"cannot understand the event stream: output at {event.position}, "
                        f"not at {self.position}"
                    )
                    raise UnexpectedAnswerError(message)
                self.position = event.end
                yield event
            elif event is not None:
                self.command = event
                self.ended = name == "end"

    def closed(self) -> None:
        """See `StreamReader.closed`."""
        if not self.ended:
            raise ConnectionLostError("the event stream was closed before its end")


class OutputReader:
    """Reads the raw output of a command, and yields bytes.

    Args:
        command_id: id of the command.
        stream: ``stdout``, ``stderr`` or ``merged``.
        offset: offset of the first byte; None to begin at ``tail``, or at 0 if ``tail`` is None.
        tail: ``"100"`` for the last 100 bytes, ``"100l"`` for the last 100 lines; None to begin at
            ``offset``.
        follow: whether to yield new output until the command has finished.
    """

    def __init__(
        self, command_id: str, stream: str, offset: int | None, tail: str | None, *, follow: bool
    ) -> None:
        self.command_id = command_id
        self.ended = False
        self.heard = False
        self._offset = offset
        self._tail = tail
        self._query = [("stream", stream)] + ([("follow", "true")] if follow else [])

    def request(self) -> dict[str, Any]:
        """See `StreamReader.request`."""
        self.heard = False
        begin = {"offset": self._offset, "tail": self._tail}
        query = [(name, str(value)) for name, value in begin.items() if value is not None]
        return {
            "method": "GET",
            "url": command_path(self.command_id, "output"),
            "params": httpx.QueryParams((*self._query, *query)),
        }

    def accepts(self, response: httpx.Response) -> bool:
        """See `StreamReader.accepts`."""
        offset = response.headers.get("output-offset", "")
        if response.status_code != 200 or not offset.isdecimal():
            return False
        # The header gives the offset of the first byte, even if the request asked for a tail. If
        # the connection breaks, the next request asks for the offset of the next byte.
        self._offset, self._tail = int(offset), None
        self.heard = True
        return True

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the bytes, and move the offset of the next request behind them."""
        assert self._offset is not None  # noqa: S101 - set by `accepts`
        self._offset += len(data)
        yield data

    def closed(self) -> None:
        """Mark the stream as complete. If the body were incomplete, httpx would raise an error."""
        self.ended = True


class Followed:
    """The properties that `Following` and `AsyncFollowing` have in common."""

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader

    @property
    def command(self) -> Command | None:
        """The command as the last ``status`` or ``end`` event described it; None before these."""
        return self._reader.command

    @property
    def position(self) -> int:
        """The position in the merged output after the last chunk that was received."""
        return self._reader.position


def _event(name: str, text: str) -> Chunk | Command | None:
    """Return the chunk or the command in an event; None if the event's name is unknown."""
    try:
        if name == "output":
            return _chunk(json.loads(text))
        return Command.from_json(json.loads(text)) if name in ("status", "end") else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"cannot understand the event stream: its {name} event is malformed"
        raise UnexpectedAnswerError(message) from error


def _chunk(members: dict[str, Any]) -> Chunk:
    if "text" in members:
        data = str(members["text"]).encode()
    else:
        data = base64.b64decode(members["base64"], validate=True)
    return Chunk(
        stream=members["stream"],
        position=members["position"],
        stream_offset=members["stream_offset"],
        time=datetime.fromisoformat(members["time"]),
        data=data,
    )


def chunk_json(chunk: Chunk) -> dict[str, Any]:
    """Return a chunk as the JSON object that is the data of an ``output`` event."""
    members: dict[str, Any] = {
        "stream": chunk.stream,
        "position": chunk.position,
        "stream_offset": chunk.stream_offset,
        "time": chunk.time.isoformat().replace("+00:00", "Z"),
    }
    try:
        members["text"] = chunk.data.decode()
    except UnicodeDecodeError:
        members["base64"] = base64.b64encode(chunk.data).decode()
    return members
