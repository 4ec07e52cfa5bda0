"""Event streams for tests: an independent parser, and connections that may read slowly."""

import base64
import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from support.service import PATIENCE_SECONDS, Service


@dataclass(frozen=True)
class Event:
    """One event, or a comment (``name`` is then ``:``)."""

    name: str
    id: int | None = None
    data: Any = None
    text: str = ""

    @property
    def bytes(self) -> bytes:
        if "text" in self.data:
            return str(self.data["text"]).encode()
        return base64.b64decode(self.data["base64"], validate=True)


def parse_frame(frame: str) -> Event:
    """Return the event of one frame, by the rules of the HTML standard."""
    if frame.startswith(":"):
        return Event(":", text=frame)
    fields: dict[str, str] = {}
    for line in frame.split("\n"):
        name, colon, value = line.partition(":")
        assert colon, line
        assert name not in fields
        fields[name] = value.removeprefix(" ")
    if "retry" in fields:
        return Event("retry", data=int(fields["retry"]))
    return Event(fields["event"], int(fields["id"]), json.loads(fields["data"]))


def parse(data: bytes) -> list[Event]:
    """Return the events of complete frames."""
    assert data.endswith(b"\n\n") or not data
    return [parse_frame(frame) for frame in data.decode().split("\n\n") if frame]


def assert_contiguous(events: list[Event], position: int) -> bytes:
    """Assert that output events form one contiguous range from a position; return its bytes."""
    offsets: dict[str, int] = {}
    parts = []
    for event in events:
        if event.name != "output":
            continue
        data, members = event.bytes, event.data
        assert data
        assert set(members) == {
            "stream", "position", "stream_offset", "time",
            "text" if "text" in members else "base64",
        }  # fmt: skip
        assert members["position"] == position
        position += len(data)
        assert event.id == position
        stream = members["stream"]
        assert members["stream_offset"] == offsets.get(stream, members["stream_offset"])
        offsets[stream] = members["stream_offset"] + len(data)
        parts.append(data)
    return b"".join(parts)


def of_stream(events: list[Event], stream: str) -> bytes:
    """Return the bytes that events carry of one stream."""
    return b"".join(
        event.bytes for event in events if event.name == "output" and event.data["stream"] == stream
    )


@dataclass
class EventStream:
    """One connection to an event stream; it is read only when a method asks for an event."""

    socket: socket.socket
    status: int
    headers: dict[str, str]
    rest: bytes = b""
    ended: bool = False
    """The last chunk came, or the connection was closed."""
    complete: bool = False
    """The last chunk came."""
    _body: bytes = b""
    _events: list[Event] = field(default_factory=list)

    def _receive(self) -> None:
        data = self.socket.recv(1 << 16)
        self.ended = not data
        self.rest += data
        self._dechunk()

    def _dechunk(self) -> None:
        while b"\r\n" in self.rest:
            size, _, rest = self.rest.partition(b"\r\n")
            length = int(size, 16)
            if len(rest) < length + 2:
                return
            self._body += rest[:length]
            self.rest = rest[length + 2 :]
            if length == 0:
                self.ended = self.complete = True
                return

    def next(self) -> Event | None:
        """Return the next event, None at the end of the stream."""
        while b"\n\n" not in self._body:
            if self.ended:
                return None
            self._receive()
        frame, _, self._body = self._body.partition(b"\n\n")
        return parse_frame(frame.decode())

    def until(self, name: str) -> Event:
        """Return the next event with a name."""
        while (event := self.next()) is not None:
            if event.name == name:
                return event
        raise AssertionError(f"the stream ended without {name}")

    def all(self) -> list[Event]:
        """Return all events until the end of the stream."""
        found = []
        while (event := self.next()) is not None:
            found.append(event)
        return found


@contextlib.contextmanager
def event_stream(
    service: Service,
    command: str,
    *,
    last: str | None = None,
    query: str = "",
    method: str = "GET",
    receive_bytes: int | None = None,
    seconds: float = PATIENCE_SECONDS,
) -> Iterator[EventStream]:
    """Connect to a command's event stream.

    Args:
        service: the service.
        command: the command id.
        last: the header Last-Event-ID.
        query: the query string with its question mark.
        method: GET or HEAD.
        receive_bytes: size of the receive buffer, for a reader that has to be slow.
        seconds: reading fails after this long without data.
    """
    with contextlib.closing(socket.socket()) as connection:
        if receive_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.settimeout(seconds)
        connection.connect(("127.0.0.1", service.port))
        head = [
            f"{method} /v1/commands/{command}/events{query} HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {service.token}",
        ]
        if last is not None:
            head.append(f"Last-Event-ID: {last}")
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        received = b""
        while b"\r\n\r\n" not in received:
            byte = connection.recv(1)
            assert byte, received
            received += byte
        first, *lines = received.decode().rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        yield EventStream(connection, int(first.split()[1]), headers)


def events_of(service: Service, command: str, *, last: int | None = None) -> list[Event]:
    """Return all events of a command until its end, without the retry line and comments."""
    with event_stream(service, command, last=None if last is None else str(last)) as stream:
        assert stream.status == 200
        found = stream.all()
        assert stream.complete
    return [event for event in found if event.name not in (":", "retry")]
