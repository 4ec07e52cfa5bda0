"""A connection's writes of one turn of the loop, sent as one.

Uvicorn writes the head of an answer, then its body: two system calls, two packets, and a client
that is woken for a head it can do nothing with. Here what is written waits for the rest of its
turn; much is sent at once, since whoever writes is to learn that the client does not read.
"""

import asyncio
from collections.abc import Callable
from typing import Any

AT_ONCE_BYTES = 16 << 10
AS_IT_IS_BYTES = 1 << 20


class CoalescingTransport:
    """A transport that sends what is written to it in one turn together.

    All else is the transport's own.

    Args:
        transport: of the connection.
        later: calls a function in the loop's next turn.
    """

    __slots__ = ("_held", "_held_bytes", "_later", "_transport")

    def __init__(
        self, transport: asyncio.Transport, later: Callable[[Callable[[], None]], object]
    ) -> None:
        self._transport = transport
        self._later = later
        self._held: list[bytes] = []
        self._held_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send data, in this turn or, if it is little, at its end."""
        if not self._held and len(data) < AT_ONCE_BYTES:
            self._later(self.flush)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= AT_ONCE_BYTES:
            self.flush()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes have not been sent."""
        return self._held_bytes + self._transport.get_write_buffer_size()

    def write_eof(self) -> None:
        """Say that nothing more comes, once everything is sent; go on listening."""
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Hang up once everything is sent."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        self.lost()
        self._transport.abort()

    def lost(self) -> None:
        """Forget what was not sent: nobody is there."""
        self._held.clear()
        self._held_bytes = 0

    def flush(self) -> None:
        """Send what was written, now."""
        if not self._held:
            return
        held, size = self._held, self._held_bytes
        self._held, self._held_bytes = [], 0
        # Joining is cheaper than another system call, and not than another copy of much.
        for data in held if size >= AS_IT_IS_BYTES else [b"".join(held)]:
            self._transport.write(data)
