"""Connections whose clients have to get on with it: uvicorn alone waits for a request for ever.

Whoever connects and says nothing, sends headers for ever, or trickles a body, holds a descriptor
and needs no token for that. Followers and whoever waits for an answer are left alone: they have
said all that they have to say.
"""

import asyncio
import math
import time
from collections.abc import Iterable
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from scriptservice.server.gathering import GatheringTransport

HEAD_SECONDS = 30.0
"""From connecting, or from the first byte of a further request, to the end of its headers."""

BODY_SECONDS = 30.0
"""From there to the end of its body, and a second more for each `BODY_RATE_BYTES` of it."""

BODY_RATE_BYTES = 1024

TICKS = 10
"""Uvicorn's, ten a second, between two looks at all connections."""

STALL_SECONDS = 2.0
"""Between two looks there is hardly ever more, unless this process cannot run."""


class PunctualProtocol(HttpToolsProtocol):
    """Uvicorn's side of one connection, which knows when the client's next word is due.

    Attributes:
        due: by the monotonic clock; infinite while it is not the client's turn to speak.
        gathering: what it writes to.
    """

    due = math.inf

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        self.gathering = GatheringTransport(transport, self.loop.call_soon)
        super().connection_made(cast("asyncio.Transport", self.gathering))
        self.due = time.monotonic() + HEAD_SECONDS

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.gathering.lost()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """See `asyncio.Protocol`; the loop closes the connection next."""
        self.gathering.flush()
        super().eof_received()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.timeout_keep_alive_task is not None:
            # Uvicorn forgets the time-out between requests with the first byte, which may be an
            # empty line that begins no request.
            self.due = time.monotonic() + HEAD_SECONDS
        super().data_received(data)

    def on_message_begin(self) -> None:
        """The first byte of a request is there."""
        super().on_message_begin()
        self.due = time.monotonic() + HEAD_SECONDS

    def on_headers_complete(self) -> None:
        """The headers are there."""
        super().on_headers_complete()
        self.due = time.monotonic() + BODY_SECONDS

    def on_body(self, body: bytes) -> None:
        """A part of the body is there."""
        self.due += len(body) / BODY_RATE_BYTES
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of the request is there."""
        super().on_message_complete()
        self.due = math.inf

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


class Punctuality:
    """Looks at all connections now and then, and hangs up on whoever is late."""

    def __init__(self) -> None:
        self._looked_at = time.monotonic()

    def look(self, connections: Iterable[object]) -> None:
        """Look at them; to be called about once a second.

        Args:
            connections: of type `PunctualProtocol`.
        """
        now = time.monotonic()
        # Was this process stopped, or very busy? Then what was sent meanwhile was not read.
        stalled_seconds = max(0.0, now - self._looked_at - STALL_SECONDS)
        self._looked_at = now
        for each in list(connections):
            connection = cast("PunctualProtocol", each)
            connection.due += stalled_seconds
            connection.look(now)
