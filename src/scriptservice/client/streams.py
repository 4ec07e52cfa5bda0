"""Following a command through breaks: event streams put together again by position.

No input or output here: `Follower` is fed what arrives and says where to go on.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from scriptservice.client.problems import UnexpectedAnswerError
from scriptservice.client.types import Command

MAX_EVENT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of output: one stream, one contiguous range.

    Attributes:
        stream: ``stdout`` or ``stderr``.
        position: offset of its first byte in the merged output.
        stream_offset: offset of its first byte in its stream.
        time: when the keeper read it, UTC.
        data: the bytes.
    """

    stream: str
    position: int
    stream_offset: int
    time: datetime
    data: bytes

    @property
    def end(self) -> int:
        """The position after its last byte: where to go on."""
        return self.position + len(self.data)


class EventParser:
    """Takes an event stream apart, whatever pieces it arrives in."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[str, str]]:
        """Add received bytes; yield name and data of the events that are complete with them.

        Raises:
            UnexpectedAnswerError: an event does not end.
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


class Follower:
    """Follows one command over as many connections as it takes.

    Attributes:
        position: after the last output that came.
        command: how it was seen last.
        ended: its end came.
        heard: this connection has brought an event of the command.

    Args:
        after: the position to begin at.
    """

    def __init__(self, after: int) -> None:
        self.position = after
        self.command: Command | None = None
        self.ended = False
        self.heard = False
        self._parser = EventParser()

    def connected(self) -> None:
        """A new connection begins: what was half received is void."""
        self.heard = False
        self._parser = EventParser()

    @property
    def headers(self) -> dict[str, str]:
        """What a connection has to ask for to go on without gap or repeat."""
        return {"Accept": "text/event-stream", "Last-Event-ID": str(self.position)}

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """Add received bytes; yield the output that is complete with them.

        ``command`` and ``ended`` change along.

        Raises:
            UnexpectedAnswerError: the stream is not one, or does not go on where it should.
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


def _event(name: str, text: str) -> Chunk | Command | None:
    """Return what an event says, None for one of a newer service."""
    try:
        if name == "output":
            return _chunk(json.loads(text))
        return Command.from_json(json.loads(text)) if name in ("status", "end") else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"cannot understand the event stream: its {name} is none"
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
    """Return a chunk as the service's own event has it."""
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
