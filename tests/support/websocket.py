"""A WebSocket client of its own, which can also do what a polite client never does."""

import base64
import contextlib
import json
import os
import socket
from collections import deque
from types import TracebackType
from typing import Any, NamedTuple, Self

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, TextMessage

from support.service import PATIENCE_SECONDS, Service

KEY = base64.b64encode(os.urandom(16)).decode()


class Closed(NamedTuple):
    """The close frame of the service; the code is None if the connection broke without one."""

    code: int | None
    reason: str | None = None


class WebSocket:
    """A connection that asks for a WebSocket, and speaks it if the service accepts.

    Args:
        service: the service.
        path: path and query.
        headers: headers that replace those of a good handshake; None leaves one out.

    Attributes:
        status: the status of the answer; 101 if the service accepted.
        headers: the headers of the answer.
        problem: the answer's body, if the service refused.
    """

    def __init__(self, service: Service, path: str, **headers: str | None) -> None:
        wanted: dict[str, str | None] = {
            "Host": f"127.0.0.1:{service.port}",
            "Authorization": f"Bearer {service.token}",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": KEY,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines = [f"{name}: {value}" for name, value in wanted.items() if value is not None]
        self.socket = socket.create_connection(("127.0.0.1", service.port), PATIENCE_SECONDS)
        self.socket.sendall("\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            part = self.socket.recv(65536)
            assert part, head
            head += part
        head, _, rest = head.partition(b"\r\n\r\n")
        first, *fields = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in fields)
        }
        self._frames = Connection(ConnectionType.CLIENT, trailing_data=b"")
        self._arrived: deque[str | bytes | Closed] = deque()
        self._text = ""
        self._data = b""
        self.problem: dict[str, Any] = {}
        if self.status == 101:
            self._feed(rest)
        else:
            while len(rest) < int(self.headers.get("content-length", 0)):
                rest += self.socket.recv(65536)
            self.problem = json.loads(rest or b"{}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, message: str | bytes | dict[str, Any]) -> None:
        """Send text, bytes, or an object as JSON text."""
        if isinstance(message, dict):
            message = json.dumps(message)
        event = TextMessage(message) if isinstance(message, str) else BytesMessage(message)
        self.socket.sendall(self._frames.send(event))

    def frame(self, message: bytes) -> bytes:
        """Return the frame of a binary message, for a test that sends it itself."""
        return self._frames.send(BytesMessage(message))

    def close(self) -> None:
        """Send a close frame, and read until the service has answered it."""
        self.socket.sendall(self._frames.send(CloseConnection(1000)))
        while not isinstance(self.receive(), Closed):
            pass
        self.socket.close()

    def receive(self) -> str | bytes | Closed:
        """Return the next message, or the end of the connection."""
        while not self._arrived:
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                return Closed(None)
            self._feed(data)
        return self._arrived.popleft()

    def _feed(self, data: bytes) -> None:
        self._frames.receive_data(data)
        for event in self._frames.events():
            match event:
                case BytesMessage() | TextMessage():
                    self._part(event)
                case Ping():
                    self.socket.sendall(self._frames.send(event.response()))
                case CloseConnection():
                    self._arrived.append(Closed(event.code, event.reason))
                    with contextlib.suppress(OSError, Exception):
                        self.socket.sendall(self._frames.send(event.response()))

    def _part(self, event: Message[Any]) -> None:
        if isinstance(event.data, str):
            self._text += event.data
            if event.message_finished:
                self._arrived.append(self._text)
                self._text = ""
        else:
            self._data += bytes(event.data)
            if event.message_finished:
                self._arrived.append(self._data)
                self._data = b""

    def json(self) -> dict[str, Any]:
        """Return the next message, which must be JSON text."""
        message = self.receive()
        assert isinstance(message, str), message
        return dict(json.loads(message))

    def read_until(self, wanted: bytes) -> bytes:
        """Read output until it contains ``wanted``; return it."""
        seen = b""
        while wanted not in seen:
            message = self.receive()
            assert isinstance(message, bytes), (seen, message)
            seen += message
        return seen

    def rest(self) -> tuple[bytes, list[dict[str, Any]], Closed]:
        """Read to the end; return the output, the texts, and how the connection was closed."""
        output, texts = b"", []
        while True:
            match self.receive():
                case bytes() as data:
                    output += data
                case str() as text:
                    texts.append(json.loads(text))
                case Closed() as closed:
                    return output, texts, closed


def attach(service: Service, command: str, query: str = "", **headers: str | None) -> WebSocket:
    """Attach to a command; return the connection behind the ``start`` message."""
    connection = WebSocket(service, f"/v1/commands/{command}/attach{query}", **headers)
    assert connection.status == 101, connection.problem
    return connection
