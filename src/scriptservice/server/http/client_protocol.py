"""Connections whose clients have to get on with it, and hold little before they are known.

Uvicorn alone waits for a request for ever, and keeps all that comes until then. Whoever connects
and says nothing, sends headers for ever, or trickles a body, holds a descriptor and needs no token
for that. Followers and whoever waits for an answer are left alone: they have said all that they
have to say.

What arrives is fed to the parser in small pieces, for three reasons. It is counted before the
parser keeps it: a header that never ends is kept inside the parser, which tells of it only at its
end. Requests that are sent ahead of their answers wait as bytes, not as parsed requests. And the
loop belongs to others between two pieces.
"""

import asyncio
import math
import time
from collections.abc import Iterable
from typing import Any, NoReturn, cast

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from scriptservice.server.http.connection_limits import ConnectionLimits
from scriptservice.server.http.problem_responses import problem_response
from scriptservice.server.http.response_headers import of_bare_answer
from scriptservice.server.http.write_coalescing import CoalescingTransport

HEAD_SECONDS = 30.0
"""From connecting, or from the first byte of a further request, to the end of its headers."""

HEAD_BYTES = 64 << 10
"""Of a request line and its headers, with whatever precedes them."""

HEAD_FIELDS = 100

BODY_SECONDS = 30.0
"""From there to the end of its body, and a second more for each `BODY_RATE_BYTES` of it."""

BODY_RATE_BYTES = 1024

LARGE_BODY_BYTES = 256 << 10
"""A longer body has to come faster: it takes room from others (see `body_budget`)."""

LARGE_BODY_RATE_BYTES = 128 << 10

FRAMING_BYTES = 16 << 10
"""Of chunk sizes and extensions between two bytes of a body."""

PIECE_BYTES = 1 << 10
BODY_PIECE_BYTES = 16 << 10
"""Fed to the parser at once. A KiB may be dozens of requests or hundreds of chunks; in a body
whose length is known there is nothing to parse."""

REQUESTS_AHEAD = 16
"""That wait for the answers to earlier ones; what else is sent ahead is not read."""

MUCH_BYTES = 16 << 10
"""Of one read; no request for a page is as long."""

PIECES_AT_ONCE = 4
"""More than these take turns with other connections."""

UNREAD_BODY_BYTES = 64 << 20
"""Of a body whose request has been answered already: dropped as it comes, so that a client that
sends first and reads later finds the answer; a longer one is cut off."""

LINGER_SECONDS = 2.0
LINGER_BYTES = 1 << 20
"""After a refusal for which the connection is closed, for the same reason."""

TICKS = 10
"""Uvicorn's, ten a second, between two looks at all connections."""

STALL_SECONDS = 2.0
"""Between two looks there is hardly ever more, unless this process cannot run."""

_NOTHING = memoryview(b"")


class _RefusedError(Exception):
    """Ends the parsing of a request that is refused; the parser hands it on as its own error."""


class _Flow(FlowControl):
    """Uvicorn's flow control of one connection, which leaves the reading to our protocol."""

    def __init__(self, transport: asyncio.Transport, protocol: "ClientProtocol") -> None:
        super().__init__(transport)
        self._protocol = protocol

    def pause_reading(self) -> None:
        """See `FlowControl`."""
        self.read_paused = True
        self._protocol.flow_changed()

    def resume_reading(self) -> None:
        """See `FlowControl`."""
        # Uvicorn asks for more with every answer, however many requests wait for theirs.
        if self.read_paused and len(self._protocol.pipeline) < REQUESTS_AHEAD:
            self.read_paused = False
            self._protocol.flow_changed()


class ClientProtocol(HttpToolsProtocol):
    """Uvicorn's side of one connection, which knows when the client's next word is due.

    Args:
        config: uvicorn's.
        server_state: uvicorn's.
        app_state: uvicorn's.
        _loop: uvicorn's.
        clients: all connections.

    Attributes:
        due: by the monotonic clock; infinite while it is not the client's turn to speak.
        gathering: what it writes to.
        held_bytes: what `ConnectionLimits` counts for it.
    """

    due = math.inf
    held_bytes = 0

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        clients: ConnectionLimits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._clients = clients
        self._known = False
        self._refusal: tuple[str, str] | None = None
        self._unread = _NOTHING
        self._queued = False
        self._resting = False
        self._reading = True
        self._droppable = -1  # bytes that are still dropped; negative: they are parsed
        self._in_head = True
        self._head_bytes = 0
        self._counted = 0
        self._fields = 0
        self._body_left: int | None = 0
        self._body_bytes = 0
        self._body_rate = BODY_RATE_BYTES
        self._framing_bytes = 0
        self._last_chunk = False

    # asyncio's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        self.gathering = CoalescingTransport(transport, self.loop.call_soon)
        super().connection_made(cast("asyncio.Transport", self.gathering))
        self.flow = _Flow(self.transport, self)
        self.due = time.monotonic() + HEAD_SECONDS
        self._clients.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._unread = _NOTHING
        self._clients.left(self)
        self.gathering.lost()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """See `asyncio.Protocol`; the loop closes the connection next."""
        self.gathering.flush()
        super().eof_received()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._rest_after(len(data))
        if self._droppable >= 0:
            self._drop(len(data))
            return
        if self.timeout_keep_alive_task is not None:
            # Uvicorn forgets the time-out between requests with the first byte, which may be an
            # empty line that begins no request.
            self.due = time.monotonic() + HEAD_SECONDS
        self._unread = memoryview(data)
        self._feed()

    # Feeding the parser

    def read_on(self) -> None:
        """See `Connection`."""
        self._queued = self._resting = False
        if self._droppable >= 0:
            self._read_if_wanted()
        else:
            self._feed()

    def flow_changed(self) -> None:
        """Uvicorn has enough of what comes, or wants more."""
        if self._unread and not self.flow.read_paused:
            self._go_on_later()
        self._read_if_wanted()

    def _rest_after(self, size: int) -> None:
        """Read no more of an unknown client that sends much before others had their turn."""
        if size >= MUCH_BYTES and not self.is_known():
            self._resting = True
            self._go_on_later()
            self._read_if_wanted()

    def _go_on_later(self) -> None:
        if not self._queued:
            self._queued = True
            self._clients.later(self)

    def _read_if_wanted(self) -> None:
        wanted = not (self.flow.read_paused or self._unread or self._resting)
        if wanted == self._reading or self.transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def _feed(self) -> None:
        """Feed the parser a few pieces, as long as uvicorn wants more."""
        for _ in range(PIECES_AT_ONCE):
            if not self._unread or self.flow.read_paused or self.transport.is_closing():
                break
            size = PIECE_BYTES
            if not self._in_head and self._body_left:
                size = min(self._body_left, BODY_PIECE_BYTES)
            piece, self._unread = self._unread[:size], self._unread[size:]
            self._feed_piece(piece)
        else:
            if self._unread and not self.flow.read_paused:
                self._go_on_later()
        if self.transport.is_closing():
            self._unread = _NOTHING
        elif self._unread and self.flow.read_paused:
            # It may wait for long: what has been fed is not kept with it.
            self._unread = memoryview(bytes(self._unread))
        self._read_if_wanted()
        waits = self._head_bytes if self._in_head else 0
        held = 0 if self._droppable >= 0 else waits + len(self._unread)
        self._clients.holds(self, 0 if held and self.is_known() else held)

    def _feed_piece(self, piece: memoryview) -> None:
        chunked = not self._in_head and self._body_left is None
        last_chunk = self._last_chunk
        if self._in_head:
            self._head_bytes += len(piece)
        elif chunked:
            self._framing_bytes += len(piece)
        super().data_received(cast("bytes", piece))
        if self._droppable >= 0:
            self._unread = _NOTHING
        elif self._in_head:
            if self._head_bytes > HEAD_BYTES:
                self._refusal = _HEAD_TOO_LARGE
                self.send_400_response("")
        elif chunked and self._framing_bytes > (
            2 if last_chunk and self._last_chunk else FRAMING_BYTES
        ):
            self._refusal = _TRAILERS if last_chunk else _FRAMING
            self.send_400_response("")

    def _unsupported_upgrade_warning(self) -> None:
        """Drop what comes with a request that asks for another protocol: it is not HTTP."""
        self._unread = _NOTHING
        super()._unsupported_upgrade_warning()

    # The parser's callbacks

    def on_message_begin(self) -> None:
        """The first byte of a request is there."""
        self.is_known()
        super().on_message_begin()
        self._counted = self._fields = 0
        self.due = time.monotonic() + HEAD_SECONDS

    def on_url(self, url: bytes) -> None:
        """A part of the request's target is there."""
        self._counted += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header is there."""
        if not self._in_head:
            self._refuse(_TRAILERS)
        self._counted += len(name) + len(value) + 4
        self._fields += 1
        if self._fields > HEAD_FIELDS:
            self._refuse(_HEAD_TOO_LARGE)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The headers are there."""
        if self._counted > HEAD_BYTES:
            self._refuse(_HEAD_TOO_LARGE)
        super().on_headers_complete()
        length = next((value for name, value in self.headers if name == b"content-length"), b"")
        chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        self._in_head = False
        self._body_left = None if chunked else int(length or b"0")
        self._body_bytes = self._framing_bytes = 0
        self._last_chunk = False
        large = self._body_left is not None and self._body_left > LARGE_BODY_BYTES
        self._body_rate = LARGE_BODY_RATE_BYTES if large else BODY_RATE_BYTES
        self.due = time.monotonic() + BODY_SECONDS

    def on_chunk_header(self) -> None:
        """The size of a chunk is there; if no byte of it follows, it is the last."""
        self._last_chunk = True
        self._framing_bytes = 0

    def on_body(self, body: bytes) -> None:
        """A part of the body is there."""
        self._last_chunk = False
        self._framing_bytes = 0
        self._body_bytes += len(body)
        if self._body_left is not None:
            self._body_left -= len(body)
        if self.cycle.response_complete:
            if self._body_bytes > UNREAD_BODY_BYTES:
                self.transport.close()
            return
        if self._body_rate == BODY_RATE_BYTES and self._body_bytes > LARGE_BODY_BYTES:
            self._body_rate = LARGE_BODY_RATE_BYTES
            self.due = time.monotonic() + BODY_SECONDS
        self.due += len(body) / self._body_rate
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of the request is there."""
        super().on_message_complete()
        self._in_head = True
        self._head_bytes = 0
        # Uvicorn's time-out between requests began with the answer, and ended with what came since.
        answered = self.cycle.response_complete
        self.due = time.monotonic() + self.timeout_keep_alive if answered else math.inf

    def on_response_complete(self) -> None:
        """See `HttpToolsProtocol`."""
        if not self._in_head and self.cycle.response_complete:
            self.due = min(self.due, time.monotonic() + BODY_SECONDS)
        super().on_response_complete()

    # Refusing

    def _refuse(self, refusal: tuple[str, str]) -> NoReturn:
        self._refusal = refusal
        raise _RefusedError

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's
        """Refuse what came, and close the connection once the client can have read why."""
        self._unread = _NOTHING
        self._droppable = LINGER_BYTES
        self.flow.resume_reading()
        self.due = time.monotonic() + LINGER_SECONDS
        cycle = self.cycle
        answering = cycle is not None and not cycle.response_complete
        if self._in_head and answering:
            # The client would take this for the answer to an earlier request: those are answered,
            # and then the connection is closed.
            cycle.keep_alive = False
            self.due = math.inf
            return
        if not self._in_head and (cycle.response_started or self.pipeline):
            self.transport.close()
            return
        if answering:
            cycle.disconnected = True
            cycle.message_event.set()
        self._unset_keepalive_if_required()
        kind, detail = self._refusal or _NOT_HTTP
        self.transport.write(_bare_answer(kind, detail, self.server_state.default_headers))
        self.transport.write_eof()

    def _drop(self, size: int) -> None:
        self._droppable -= size
        if self._droppable < 0:
            self._droppable = 0
            self.transport.abort()

    # For those who look at all connections

    def is_known(self) -> bool:
        """See `Connection`."""
        if not self._known and self.scope is not None:
            self._known = self.scope["state"].get("token") is not None
        return self._known

    def waits_for_client(self) -> bool:
        """See `Connection`."""
        if self.transport.is_closing():
            return False
        return self.cycle is None or self.cycle.response_complete or self.due < math.inf

    def hang_up(self) -> None:
        """See `Connection`."""
        self.transport.abort()

    def look(self, now: float) -> None:
        """Hang up if the client is late.

        Args:
            now: by the monotonic clock, in seconds.
        """
        if self.flow.read_paused:
            # It is not listened to: an earlier request of its is being answered.
            self.due = max(self.due, now + BODY_SECONDS)
        elif now >= self.due and not self.transport.is_closing():
            if self.transport.get_write_buffer_size():
                self.transport.abort()  # it does not read either
            else:
                self.transport.close()


_HEAD_TOO_LARGE = (
    "headers-too-large",
    f"cannot take more than {HEAD_BYTES} bytes or {HEAD_FIELDS} fields of headers",
)
_TRAILERS = ("bad-request", "cannot take trailers behind a body in chunks: leave them out")
_FRAMING = ("bad-request", "cannot take a body whose chunk sizes and extensions never end")
_NOT_HTTP = ("bad-request", "cannot read the request: it is not HTTP/1.1")


def _bare_answer(kind: str, detail: str, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return an answer that no application makes: what came is no request for one."""
    response = problem_response(kind, detail, "/")
    lines = [STATUS_LINE[response.status_code]]
    headers = [*default_headers, *of_bare_answer(response.raw_headers)]
    lines += [b"%s: %s\r\n" % each for each in headers]
    return b"".join([*lines, b"connection: close\r\n\r\n", bytes(response.body)])


class TimeoutCheck:
    """Looks at all connections now and then, and hangs up on whoever is late."""

    def __init__(self) -> None:
        self._looked_at = time.monotonic()

    def look(self, connections: Iterable[object]) -> None:
        """Look at them; to be called about once a second.

        Args:
            connections: of type `ClientProtocol`.
        """
        now = time.monotonic()
        # Was this process stopped, or very busy? Then what was sent meanwhile was not read.
        stalled_seconds = max(0.0, now - self._looked_at - STALL_SECONDS)
        self._looked_at = now
        for each in list(connections):
            connection = cast("ClientProtocol", each)
            connection.due += stalled_seconds
            connection.look(now)
