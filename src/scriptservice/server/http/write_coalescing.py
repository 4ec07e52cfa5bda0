"""Joins all data that is written to a connection during one turn of the event loop.

Uvicorn writes the head of an answer and then the body. That would cost two system calls and two
packets, and would wake the client when it has only the head. Here a small write waits until the end
of the turn and is sent together with the other writes of the turn. A large write is sent at once,
because flow control can only stop a writer whose data has reached the transport.
"""

import asyncio
from collections.abc import Callable
from typing import Any

FLUSH_BYTES = 16 << 10
"""When the held writes together have at least this size, they are sent at once."""

JOIN_BYTES = 1 << 20
"""If the held writes together have at least this size, they are sent one by one. Joining them would
copy their data, and this costs more than further system calls."""


class CoalescingTransport:
    """A transport that joins the writes of one turn. All other calls go to the wrapped transport.

    Args:
        transport: the wrapped transport.
        call_soon: calls a function in the loop's next turn.
    """

    __slots__ = ("_call_soon", "_held", "_held_bytes", "_transport")

    def __init__(
        self, transport: asyncio.Transport, call_soon: Callable[[Callable[[], None]], object]
    ) -> None:
        self._transport = transport
        self._call_soon = call_soon
        self._held: list[bytes] = []
        self._held_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Hold data until the end of this turn. If much data is held then, send all of it now."""
        if not self._held and len(data) < FLUSH_BYTES:
            self._call_soon(self.flush)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= FLUSH_BYTES:
            self.flush()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes have not been sent yet."""
        return self._held_bytes + self._transport.get_write_buffer_size()

    def write_eof(self) -> None:
        """Close the sending side once everything is sent; keep receiving."""
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Close the connection once everything is sent."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self.discard()
        self._transport.abort()

    def discard(self) -> None:
        """Drop the held writes without sending them."""
        self._held.clear()
        self._held_bytes = 0

    def flush(self) -> None:
        """Send the held writes now."""
        if not self._held:
            return
        held, size = self._held, self._held_bytes
        self._held, self._held_bytes = [], 0
        for data in held if size >= JOIN_BYTES else [b"".join(held)]:
            self._transport.write(data)
