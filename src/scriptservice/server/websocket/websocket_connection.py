"""One WebSocket connection: messages in both directions, bounded buffers, pings, and the end.

`ClientProtocol` makes a `WebSocketConnection` when a route accepts a WebSocket, and the connection
then gets what the client sends. The package ``wsproto`` reads and writes the frames. This module is
imported at the first WebSocket, because most servers never have one, and ``wsproto`` takes 1 MiB of
memory.

Memory is bounded in both directions. The connection reads from the socket only while no complete
message waits for `receive`, and `send` waits while the client does not read.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from scriptservice.server.http.websocket_handshake import CloseCode

MESSAGE_BYTES = 1 << 20
"""Largest size of a message from a client, in bytes of UTF-8 for a text."""

PIECE_BYTES = 16 << 10
"""Maximum number of bytes that are parsed at once. One read of the event loop may hold thousands of
small messages. With small pieces, only few of them are parsed before they are needed."""

PING_SECONDS = 15.0
"""Time between two pings."""
PONG_SECONDS = 15.0
"""Longest time from a ping to the next byte from the client."""
CLOSE_SECONDS = 5.0
"""Longest time from a close frame to the client's answer."""


class WebSocketGoneError(ConnectionError):
    """The connection is closed, so nothing can be sent."""


class WebSocketConnection(asyncio.Protocol):
    """One WebSocket connection after its handshake.

    Args:
        transport: the connection to the client.
        on_lost: called once when the connection is lost.

    Attributes:
        deadline: time by which the client must have sent something, in seconds of the monotonic
            clock; infinite while no ping and no close frame waits for an answer.
        held_bytes: see `LimitedConnection`.
        lost: event that is set when the connection is lost.
    """

    held_bytes = 0

    def __init__(
        self, transport: asyncio.Transport, on_lost: Callable[["WebSocketConnection"], None]
    ) -> None:
        self._transport = transport
        self._on_lost = on_lost
        self._frames = Connection(ConnectionType.SERVER)
        self._unparsed = b""
        self._incomplete = bytearray()  # a message whose end has not arrived
        self._messages: deque[str | bytes] = deque()
        self._reading = True
        self._closing = False
        self._message_arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._ping_at = time.monotonic() + PING_SECONDS
        self.deadline = math.inf
        self.lost = asyncio.Event()

    # Called by the conversation

    async def receive(self) -> str | bytes | None:
        """Return the next message; None if the connection is closing, so no more messages come.

        While a message waits for this call, the client's next messages wait in the socket.
        """
        while not self._messages:
            if self._closing or self.lost.is_set():
                return None
            self._message_arrived.clear()
            await self._message_arrived.wait()
        message = self._messages.popleft()
        if not self._messages:
            self._parse()
        return message

    async def send(self, data: str | bytes) -> None:
        """Send a message, once the client has read enough of what was sent before.

        Raises:
            WebSocketGoneError: the connection is closed.
        """
        await self._writable.wait()
        if self._closing or self._transport.is_closing():
            raise WebSocketGoneError
        message = TextMessage(data) if isinstance(data, str) else BytesMessage(data)
        self._transport.write(self._frames.send(message))

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Send a close frame. The connection ends at the client's answer, or after `CLOSE_SECONDS`.

        Args:
            code: the close code.
            reason: a short text for people.
        """
        if self._closing or self._transport.is_closing():
            return
        self._begin_closing()
        self._transport.write(self._frames.send(CloseConnection(code, reason)))
        self._messages.clear()
        self._parse()

    # Called by asyncio

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """See `asyncio.Protocol`."""
        self._closing = True
        self._unparsed = b""
        self.lost.set()
        self._message_arrived.set()
        self._writable.set()
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if not self._closing:
            self.deadline = math.inf
        self._unparsed += data
        self._parse()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._writable.set()

    # Frames

    def _parse(self) -> None:
        """Parse what has arrived until a message is complete; read on only if none waits."""
        while self._unparsed and not self._messages and not self._transport.is_closing():
            piece, self._unparsed = self._unparsed[:PIECE_BYTES], self._unparsed[PIECE_BYTES:]
            try:
                self._frames.receive_data(piece)
                self._handle_events()
            except (LocalProtocolError, RemoteProtocolError):
                self._transport.close()
        reading = not self._messages
        if reading is self._reading or self._transport.is_closing():
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _handle_events(self) -> None:
        for event in self._frames.events():
            match event:
                case Message():
                    self._message_part_received(event)
                case Ping():
                    # If the client does not read, answers to its pings would pile up in memory.
                    if self._writable.is_set() and not self._closing:
                        self._transport.write(self._frames.send(event.response()))
                case CloseConnection():
                    self._close_received(event)
                case _:
                    pass  # a Pong; `data_received` has noted that the client is alive

    def _message_part_received(self, event: "Message[str] | Message[bytes | bytearray]") -> None:
        if self._closing:
            return
        data = event.data
        self._incomplete += data.encode() if isinstance(data, str) else data
        if len(self._incomplete) > MESSAGE_BYTES:
            self.close(CloseCode.TOO_LARGE, f"a message has more than {MESSAGE_BYTES} bytes")
        elif event.message_finished:
            message = bytes(self._incomplete)
            self._incomplete.clear()
            self._messages.append(message.decode() if isinstance(data, str) else message)
            self._message_arrived.set()

    def _close_received(self, event: CloseConnection) -> None:
        """Handle a close frame, or data that is not a valid frame."""
        if self._frames.state is ConnectionState.REMOTE_CLOSING:
            self._transport.write(self._frames.send(event.response()))
        elif self._frames.state is ConnectionState.OPEN:
            self._transport.write(self._frames.send(event))
        self._begin_closing()
        self._transport.close()

    def _begin_closing(self) -> None:
        self._closing = True
        self._incomplete.clear()
        self.deadline = time.monotonic() + CLOSE_SECONDS
        self._message_arrived.set()
        self._writable.set()

    # Called by ConnectionLimits and by the server

    def is_authenticated(self) -> bool:
        """See `LimitedConnection`. A route accepts a WebSocket only after the token check."""
        return True

    def waits_for_client(self) -> bool:
        """See `LimitedConnection`."""
        return False

    def abort(self) -> None:
        """See `LimitedConnection`."""
        self._transport.abort()

    def continue_reading(self) -> None:
        """See `LimitedConnection`. A WebSocket is never scheduled."""

    def shutdown(self) -> None:
        """Handle that the server is ending. The conversation itself ends then; see `Notifier`."""

    def check_deadline(self, now: float) -> None:
        """Send a ping when it is time, and close the connection if the client does not answer.

        The server calls this method about once a second.

        Args:
            now: time of the monotonic clock, in seconds.
        """
        if now >= self.deadline:
            sent = not self._transport.get_write_buffer_size()
            if self._closing or (self._reading and sent):
                self._transport.abort()
            else:
                # The answer to the ping may wait in the socket while this server does not read, or
                # the ping itself may wait while the client does not read. Such a client stays
                # connected, as one that follows events does.
                self.deadline = now + PONG_SECONDS
        if now >= self._ping_at and not self._closing:
            self._ping_at = now + PING_SECONDS
            self._transport.write(self._frames.send(Ping(b"")))
            self.deadline = min(self.deadline, now + PONG_SECONDS)
