"""The opening handshake of a WebSocket, and the response with which a route accepts one.

A WebSocket begins as a GET request with an Upgrade header. The request passes all layers and checks
of a GET request and is routed like one, so no layer can forget it and every refusal is an ordinary
answer. `ClientProtocol` marks such a request in its ASGI scope. If the route returns a
`WebSocketResponse`, the connection changes its protocol.
"""

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

ACCEPT_KEY = "scriptservice.accept_websocket"
"""The key in the ASGI scope of a request that opens a WebSocket. Its value is a function that
changes the connection's protocol and returns a `MessageConnection`; it returns None if the client
has left."""

VERSION = "13"
"""The only version of the protocol."""
_VERSION = VERSION.encode()
_KEY_BYTES = 16
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # from RFC 6455


class CloseCode(IntEnum):
    """Why the service closes a WebSocket; the numbers are those of RFC 6455."""

    NORMAL = 1000
    """The conversation is complete."""
    NOT_ALLOWED = 1008
    """The token or the session is no longer valid."""
    TOO_LARGE = 1009
    """A message is too large."""
    RESTART = 1012
    """The server ends; connect again."""


class MessageConnection(Protocol):
    """An open WebSocket, as a conversation sees it; see `WebSocketConnection`.

    Attributes:
        lost: event that is set when the connection is lost.
    """

    lost: asyncio.Event

    async def receive(self) -> str | bytes | None:
        """Return the next message, None if no more messages come."""

    async def send(self, data: str | bytes) -> None:
        """Send a message.

        Raises:
            ConnectionError: the connection is closed.
        """

    def close(self, code: CloseCode, reason: str = "") -> None:
        """End the connection."""

    def abort(self) -> None:
        """Cut the connection at once."""


Conversation = Callable[[MessageConnection], Awaitable[None]]


def handshake_key(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """Return the key of a request that opens a WebSocket; None for any other request.

    Args:
        headers: the request's headers; names in lower case.
    """
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value)
    keys = found.get(b"sec-websocket-key", [])
    if len(keys) != 1 or found.get(b"sec-websocket-version") != [_VERSION]:
        return None
    upgrades = b",".join(found.get(b"upgrade", [])).lower().split(b",")
    connection = b",".join(found.get(b"connection", [])).lower().split(b",")
    if b"websocket" not in map(bytes.strip, upgrades):
        return None
    if b"upgrade" not in map(bytes.strip, connection):
        return None
    try:
        nonce = base64.b64decode(keys[0], validate=True)
    except binascii.Error:
        return None
    return keys[0] if len(nonce) == _KEY_BYTES else None


def accepting_answer(key: bytes, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the complete answer that accepts a WebSocket.

    Args:
        key: the key of the handshake.
        default_headers: the headers that uvicorn adds to each answer.
    """
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    headers = [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", base64.b64encode(digest)),
        *((name, value) for name, value in default_headers if name.lower() != b"connection"),
    ]
    lines = [b"%s: %s\r\n" % each for each in headers]
    return b"".join([b"HTTP/1.1 101 Switching Protocols\r\n", *lines, b"\r\n"])


class WebSocketResponse(Response):
    """The response that accepts a WebSocket and then holds a conversation on it.

    Args:
        conversation: called with the connection; the connection is closed when it returns.
    """

    def __init__(self, conversation: Conversation) -> None:
        super().__init__(status_code=101)
        self._conversation = conversation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Accept the WebSocket and hold the conversation until it ends."""
        connection: MessageConnection | None = scope[ACCEPT_KEY]()
        # `ClientProtocol` has sent the answer. This message is only for the layers that count
        # answers, because the HTTP part of the connection is over.
        await send({"type": "http.response.start", "status": 101, "headers": []})
        if connection is None:
            return
        try:
            await self._conversation(connection)
        except BaseException:
            connection.abort()
            raise
