"""Uvicorn's HTTP protocol with time-outs and limits for clients.

Uvicorn itself waits for a request without a time-out, and keeps everything that arrives meanwhile.
So a client without a token could occupy a descriptor: it could send nothing, send headers without
end, or send a body very slowly. `ClientProtocol` sets a deadline for each part of a request. A
client that has sent its whole request has no deadline: it waits for the answer, or follows a
command.

`ClientProtocol` feeds the input to the parser in small pieces, for three reasons. First, the parser
keeps an incomplete header in memory and reports the header only when it is complete. With small
pieces, `ClientProtocol` can count the bytes of the header before that. Second, a client may send
further requests before it has received the answers to earlier requests. These further requests wait
as bytes, and not as parsed requests. Third, other tasks can run between two pieces.
"""

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, Protocol, cast

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from scriptservice.server.http.connection_limits import ConnectionLimits, LimitedConnection
from scriptservice.server.http.request_limits import (
    BODY_RATE_BYTES,
    BODY_SECONDS,
    FRAMING_BYTES,
    FRAMING_TOO_LARGE,
    HAS_TRAILERS,
    HEAD_BYTES,
    HEAD_FIELDS,
    HEAD_SECONDS,
    HEAD_TOO_LARGE,
    LARGE_BODY_BYTES,
    LARGE_BODY_RATE_BYTES,
    LINGER_BYTES,
    LINGER_SECONDS,
    NOT_HTTP,
    UNREAD_BODY_BYTES,
    BadRequest,
)
from scriptservice.server.http.websocket_handshake import (
    ACCEPT_KEY,
    MessageConnection,
    accepting_answer,
    handshake_key,
)
from scriptservice.server.http.write_coalescing import CoalescingTransport

PIECE_BYTES = 1 << 10
BODY_PIECE_BYTES = 16 << 10
"""Maximum number of bytes that are fed to the parser in one call. In a body of known length, there
is nothing to parse, and the maximum is `BODY_PIECE_BYTES`. Everywhere else it is `PIECE_BYTES`,
because one KiB may already contain dozens of requests or hundreds of chunks."""

PIECES_PER_TURN = 4
"""Maximum number of pieces that are fed for one connection in one turn. The rest of its input waits
until other connections have had a turn."""

REQUESTS_AHEAD = 16
"""Reading from a connection stays paused while at least this many of its parsed requests wait for
the answers to earlier requests."""

LARGE_READ_BYTES = 16 << 10
"""After a read of at least this size from an unauthenticated client, the server reads no more from
this client until its next turn. A request for the web page is always shorter, so it never has to
wait."""

_EMPTY = memoryview(b"")


class _RefusedError(Exception):
    """Raised in a callback of the parser to end the parsing of a refused request.

    The parser then raises an error of its own.
    """


class WebSocketProtocol(MessageConnection, LimitedConnection, Protocol):
    """The protocol of a connection that has become a WebSocket; see `WebSocketConnection`."""


NewWebSocket = Callable[[asyncio.Transport, Callable[[LimitedConnection], None]], WebSocketProtocol]
"""Makes the protocol of a WebSocket from its transport, and from a function that the protocol calls
when the connection is lost."""


class _Flow(FlowControl):
    """Uvicorn's flow control, except that `ClientProtocol` decides when to read."""

    def __init__(self, transport: asyncio.Transport, protocol: "ClientProtocol") -> None:
        super().__init__(transport)
        self._protocol = protocol

    def pause_reading(self) -> None:
        """See `FlowControl`."""
        self.read_paused = True
        self._protocol.flow_changed()

    def resume_reading(self) -> None:
        """See `FlowControl`."""
        # Uvicorn calls this method after every answer. Stay paused if many requests still wait.
        if self.read_paused and len(self._protocol.pipeline) < REQUESTS_AHEAD:
            self.read_paused = False
            self._protocol.flow_changed()


class ClientProtocol(HttpToolsProtocol):
    """Uvicorn's protocol for one connection, with time-outs and limits.

    Args:
        config: uvicorn's configuration.
        server_state: uvicorn's state of the server.
        app_state: uvicorn's state of the application.
        _loop: the event loop; None for the current one.
        limits: the limits on all connections together.
        new_websocket: makes the protocol of a connection that becomes a WebSocket.

    Attributes:
        deadline: time by which the client must have sent the next part of its request, in seconds
            of the monotonic clock; infinite while the client waits for an answer.
        held_bytes: see `LimitedConnection`.
    """

    deadline = math.inf
    held_bytes = 0

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
        new_websocket: NewWebSocket,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._new_websocket = new_websocket
        self._authenticated = False
        self._refusal: BadRequest | None = None
        self._unparsed = _EMPTY
        self._scheduled = False
        self._resting = False
        self._reading = True
        # The number of input bytes that may still be discarded. It is negative while the input is
        # parsed and not discarded.
        self._discardable = -1
        self._in_head = True
        self._head_bytes = 0  # bytes fed to the parser since the end of the last request
        self._parsed_head_bytes = 0
        self._fields = 0
        self._body_left: int | None = 0  # None for a chunked body
        self._body_bytes = 0
        self._body_rate_bytes = BODY_RATE_BYTES
        self._framing_bytes = 0
        self._last_chunk = False

    # Called by asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        self._coalescing = CoalescingTransport(transport, self.loop.call_soon)
        super().connection_made(cast("asyncio.Transport", self._coalescing))
        self.flow = _Flow(self.transport, self)
        self.deadline = time.monotonic() + HEAD_SECONDS
        self._limits.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._unparsed = _EMPTY
        self._limits.closed(self)
        self._coalescing.discard()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """See `asyncio.Protocol`. The event loop then closes the connection."""
        self._coalescing.flush()
        super().eof_received()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._rest_after(len(data))
        if self._discardable >= 0:
            self._discard(len(data))
            return
        if self.timeout_keep_alive_task is not None:
            # This data cancels uvicorn's time-out between requests, although the data may be only
            # an empty line and not the beginning of a request. So set a deadline here.
            self.deadline = time.monotonic() + HEAD_SECONDS
        self._unparsed = memoryview(data)
        self._feed()

    # Feeding the parser

    def continue_reading(self) -> None:
        """See `LimitedConnection`."""
        self._scheduled = self._resting = False
        if self._discardable >= 0:
            self._update_reading()
        else:
            self._feed()

    def flow_changed(self) -> None:
        """Follow uvicorn's flow control, which has just paused or resumed reading."""
        if self._unparsed and not self.flow.read_paused:
            self._schedule()
        self._update_reading()

    def _rest_after(self, size: int) -> None:
        """Pause reading until the next turn after a large read from an unauthenticated client.

        Args:
            size: number of bytes that were just read.
        """
        if size >= LARGE_READ_BYTES and not self.is_authenticated():
            self._resting = True
            self._schedule()
            self._update_reading()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._limits.schedule(self)

    def _update_reading(self) -> None:
        """Pause or resume reading from the transport, if that is necessary."""
        wanted = not (self.flow.read_paused or self._unparsed or self._resting)
        if wanted == self._reading or self.transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def _feed(self) -> None:
        """Feed a few pieces to the parser; stop early if uvicorn pauses reading."""
        for _ in range(PIECES_PER_TURN):
            if not self._unparsed or self.flow.read_paused or self.transport.is_closing():
                break
            size = PIECE_BYTES
            if not self._in_head and self._body_left:
                size = min(self._body_left, BODY_PIECE_BYTES)
            piece, self._unparsed = self._unparsed[:size], self._unparsed[size:]
            self._feed_piece(piece)
        else:
            if self._unparsed and not self.flow.read_paused:
                self._schedule()
        if self.transport.is_closing():
            self._unparsed = _EMPTY
        elif self._unparsed and self.flow.read_paused:
            # The rest may wait for long, so copy it. A view would also keep the bytes that are
            # already parsed in memory.
            self._unparsed = memoryview(bytes(self._unparsed))
        self._update_reading()
        head_bytes = self._head_bytes if self._in_head else 0
        held = 0 if self._discardable >= 0 else head_bytes + len(self._unparsed)
        self._limits.set_held_bytes(self, 0 if held and self.is_authenticated() else held)

    def _feed_piece(self, piece: memoryview) -> None:
        chunked = not self._in_head and self._body_left is None
        last_chunk = self._last_chunk
        if self._in_head:
            self._head_bytes += len(piece)
        elif chunked:
            self._framing_bytes += len(piece)
        super().data_received(cast("bytes", piece))
        if self._discardable >= 0:
            self._unparsed = _EMPTY
        elif self._in_head:
            if self._head_bytes > HEAD_BYTES:
                self._refusal = HEAD_TOO_LARGE
                self.send_400_response("")
        elif chunked and self._framing_bytes > (
            2 if last_chunk and self._last_chunk else FRAMING_BYTES
        ):
            self._refusal = HAS_TRAILERS if last_chunk else FRAMING_TOO_LARGE
            self.send_400_response("")

    def _unsupported_upgrade_warning(self) -> None:
        """Drop the bytes after a request to change the protocol, because they are not HTTP."""
        self._unparsed = _EMPTY
        super()._unsupported_upgrade_warning()

    # Called by the parser

    def on_message_begin(self) -> None:
        """Handle the first byte of a request."""
        self.is_authenticated()
        super().on_message_begin()
        self._parsed_head_bytes = self._fields = 0
        self.deadline = time.monotonic() + HEAD_SECONDS

    def on_url(self, url: bytes) -> None:
        """Handle a part of the request's target."""
        self._parsed_head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Handle a complete header."""
        if not self._in_head:
            self._refuse(HAS_TRAILERS)
        self._parsed_head_bytes += len(name) + len(value) + 4
        self._fields += 1
        if self._fields > HEAD_FIELDS:
            self._refuse(HEAD_TOO_LARGE)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Handle the end of the headers."""
        if self._parsed_head_bytes > HEAD_BYTES:
            self._refuse(HEAD_TOO_LARGE)
        super().on_headers_complete()
        length = next((value for name, value in self.headers if name == b"content-length"), b"")
        chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        self._in_head = False
        self._body_left = None if chunked else int(length or b"0")
        self._body_bytes = self._framing_bytes = 0
        self._last_chunk = False
        large = self._body_left is not None and self._body_left > LARGE_BODY_BYTES
        self._body_rate_bytes = LARGE_BODY_RATE_BYTES if large else BODY_RATE_BYTES
        self.deadline = time.monotonic() + BODY_SECONDS
        if self._may_open_websocket() and (key := handshake_key(self.headers)) is not None:
            accept = partial(self._accept_websocket, self.cycle, key)
            cast("dict[str, Any]", self.scope)[ACCEPT_KEY] = accept

    def on_chunk_header(self) -> None:
        """Handle the size of a chunk. If no byte of this chunk follows, it is the last chunk."""
        self._last_chunk = True
        self._framing_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Handle a part of the body."""
        self._last_chunk = False
        self._framing_bytes = 0
        self._body_bytes += len(body)
        if self._body_left is not None:
            self._body_left -= len(body)
        if self.cycle.response_complete:
            if self._body_bytes > UNREAD_BODY_BYTES:
                self.transport.close()
            return
        if self._body_rate_bytes == BODY_RATE_BYTES and self._body_bytes > LARGE_BODY_BYTES:
            self._body_rate_bytes = LARGE_BODY_RATE_BYTES
            self.deadline = time.monotonic() + BODY_SECONDS
        self.deadline += len(body) / self._body_rate_bytes
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Handle the end of the request."""
        super().on_message_complete()
        self._in_head = True
        self._head_bytes = 0
        # If the request was answered before its end arrived, uvicorn started its time-out between
        # requests at the answer. The rest of the request has cancelled that time-out, so set a
        # deadline instead.
        answered = self.cycle.response_complete
        self.deadline = time.monotonic() + self.timeout_keep_alive if answered else math.inf

    def on_response_complete(self) -> None:
        """See `HttpToolsProtocol`."""
        if not self._in_head and self.cycle.response_complete:
            self.deadline = min(self.deadline, time.monotonic() + BODY_SECONDS)
        super().on_response_complete()

    # WebSockets

    def _may_open_websocket(self) -> bool:
        """Return whether a request like the one whose headers are complete may open a WebSocket."""
        return (
            self.parser.should_upgrade()
            and self.scope["method"] == "GET"
            and self.scope["http_version"] == "1.1"
            and self._body_left == 0
            and not self.pipeline  # the answers to earlier requests would come too late
        )

    def _accept_websocket(
        self, cycle: RequestResponseCycle, key: bytes
    ) -> WebSocketProtocol | None:
        """Send the answer that accepts a WebSocket, and change the connection's protocol.

        Args:
            cycle: uvicorn's state of the request.
            key: the key of the handshake.

        Returns:
            The connection; None if the client has left, or has sent more before this answer.
        """
        has_sent_more = self.cycle is not cycle or self._head_bytes or self._discardable >= 0
        if has_sent_more or cycle.disconnected or self.transport.is_closing():
            cycle.disconnected = True
            self.transport.close()
            return None
        # For uvicorn, this request is over.
        cycle.disconnected = cycle.response_started = cycle.response_complete = True
        self.transport.write(accepting_answer(key, self.server_state.default_headers))
        connection = self._new_websocket(self.transport, self._websocket_lost)
        self.connections.discard(self)
        self.connections.add(cast("ClientProtocol", connection))
        self._limits.upgraded(self)
        self._unparsed = _EMPTY
        if not self._reading:
            self._reading = True
            self.transport.resume_reading()
        self.transport.set_protocol(cast("asyncio.BaseProtocol", connection))
        return connection

    def _websocket_lost(self, connection: LimitedConnection) -> None:
        self.connections.discard(cast("ClientProtocol", connection))
        self._limits.closed(connection)
        self._coalescing.discard()

    # Refusing requests

    def _refuse(self, refusal: BadRequest) -> NoReturn:
        self._refusal = refusal
        raise _RefusedError

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's
        """Refuse the request, and end the connection.

        The client gets `LINGER_SECONDS` to read the refusal before the connection is closed. In two
        cases no refusal is sent: an earlier request has no answer yet, or the answer to this
        request has already begun.
        """
        self._unparsed = _EMPTY
        self._discardable = LINGER_BYTES
        self.flow.resume_reading()
        self.deadline = time.monotonic() + LINGER_SECONDS
        cycle = self.cycle
        answering = cycle is not None and not cycle.response_complete
        if self._in_head and answering:
            # An earlier request has no answer yet, and the client would take the refusal for that
            # answer. So answer the earlier requests, then close the connection.
            cycle.keep_alive = False
            self.deadline = math.inf
            return
        if not self._in_head and (cycle.response_started or self.pipeline):
            self.transport.close()
            return
        if answering:
            cycle.disconnected = True
            cycle.message_event.set()
        self._unset_keepalive_if_required()
        refusal = self._refusal or NOT_HTTP
        self.transport.write(refusal.answer(self.server_state.default_headers))
        self.transport.write_eof()

    def _discard(self, size: int) -> None:
        self._discardable -= size
        if self._discardable < 0:
            self._discardable = 0
            self.transport.abort()

    # Called by ConnectionLimits and by the server

    def is_authenticated(self) -> bool:
        """See `LimitedConnection`."""
        if not self._authenticated and self.scope is not None:
            self._authenticated = self.scope["state"].get("token") is not None
        return self._authenticated

    def waits_for_client(self) -> bool:
        """See `LimitedConnection`."""
        if self.transport.is_closing():
            return False
        return self.cycle is None or self.cycle.response_complete or self.deadline < math.inf

    def abort(self) -> None:
        """See `LimitedConnection`."""
        self.transport.abort()

    def check_deadline(self, now: float) -> None:
        """Close the connection if the client has missed its deadline.

        The server calls this method about once a second.

        Args:
            now: time of the monotonic clock, in seconds.
        """
        if self.flow.read_paused:
            # The service itself has stopped reading, for example because an earlier request is
            # being answered. So the client gets more time.
            self.deadline = max(self.deadline, now + BODY_SECONDS)
        elif now >= self.deadline and not self.transport.is_closing():
            if self.transport.get_write_buffer_size():
                self.transport.abort()  # `close` would wait until the client has read everything
            else:
                self.transport.close()
