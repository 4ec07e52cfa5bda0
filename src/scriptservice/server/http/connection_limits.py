"""Limits on all connections together: their number, and the bytes of their unfinished requests.

A connection becomes authenticated by a request with a valid token or session. Anyone can open
unauthenticated connections, so this module limits the resources that they use. When these resources
run out, the oldest unauthenticated connection is closed. Authenticated connections are never
closed.
"""

from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

UNAUTHENTICATED_BYTES = 16 << 20
"""Bytes of unfinished requests that all unauthenticated connections may hold together."""

DEFAULT_CONNECTIONS = 10_000

OTHER_DESCRIPTORS = 200
"""Number of descriptors that are reserved for the database, the journal, the keeper and Python's
own files."""

TURN_SECONDS = 0.0005
REST_SECONDS = 0.002
"""In each turn, long input of authenticated connections is processed for at most `TURN_SECONDS`.
Then the event loop serves everything else for `REST_SECONDS`. Uvloop's timers have a resolution of
one millisecond, so a shorter rest might have no length at all."""

UNAUTHENTICATED_TURNS = 2
UNAUTHENTICATED_REST_SECONDS = 0.008
"""In each turn, the server reads from at most `UNAUTHENTICATED_TURNS` unauthenticated connections.
From each of them it takes at most one read of the event loop, 256 KiB. Then all unauthenticated
connections rest for `UNAUTHENTICATED_REST_SECONDS`. So all of them together can send 64 MiB a
second. A turn is limited by a number of connections and not by a time. The reason is that
`ConnectionLimits` cannot measure how long the event loop takes to read.
"""


class LimitedConnection(Protocol):
    """A connection, as `ConnectionLimits` sees it.

    Attributes:
        held_bytes: number of bytes that the connection holds of an unfinished request;
            `ConnectionLimits` sets this attribute.
    """

    held_bytes: int

    def is_authenticated(self) -> bool:
        """Return whether a request of this connection came with a valid token or session."""

    def waits_for_client(self) -> bool:
        """Return whether the client has to send something; False if it waits for an answer."""

    def abort(self) -> None:
        """Close the connection at once."""

    def continue_reading(self) -> None:
        """Process a bounded part of the input; call `ConnectionLimits.schedule` if more is left."""


class ConnectionLimits:
    """The connections of a server.

    Args:
        limit: maximum number of connections.
        call_later: the event loop's ``call_later``.

    Attributes:
        on_full: called when there are too many connections and no connection can be closed. The
            server must then accept no more connections.
        on_room: called when the server may accept connections again.
    """

    def __init__(self, limit: int, call_later: Callable[..., object]) -> None:
        self._limit = limit
        self._call_later = call_later
        self._number = 0
        self._full = False
        # Dictionaries keep the order of insertion, so the first connection is the oldest.
        self._unauthenticated: dict[LimitedConnection, None] = {}
        self._holding: dict[LimitedConnection, None] = {}
        self._held_bytes = 0
        self._scheduled: deque[LimitedConnection] = deque()
        self._scheduled_unauthenticated: deque[LimitedConnection] = deque()
        self._timer_runs = False
        self._unauthenticated_rest_until = 0.0
        self.on_full: Callable[[], None] = lambda: None
        self.on_room: Callable[[], None] = lambda: None

    def opened(self, connection: LimitedConnection) -> None:
        """Count a new connection. If there are too many, close the oldest unauthenticated one."""
        self._number += 1
        if (
            self._number > self._limit
            and not self._abort_oldest(self._unauthenticated)
            and not self._full
        ):
            self._full = True
            self.on_full()
        self._unauthenticated[connection] = None

    def make_room(self) -> None:
        """Close the oldest unauthenticated connection if the server accepts no new connections.

        The server calls this method once a second.
        """
        if self._full and self._number <= self._limit:
            self._abort_oldest(self._unauthenticated)

    def closed(self, connection: LimitedConnection) -> None:
        """Stop counting a connection that was closed."""
        self._number -= 1
        self._unauthenticated.pop(connection, None)
        self.set_held_bytes(connection, 0)
        if self._full and self._number < self._limit:
            self._full = False
            self.on_room()

    def upgraded(self, connection: LimitedConnection) -> None:
        """Forget a connection whose protocol another object handles from now on.

        The connection still counts, until `closed` is called for the other object.
        """
        self._unauthenticated.pop(connection, None)
        self.set_held_bytes(connection, 0)

    def set_held_bytes(self, connection: LimitedConnection, size: int) -> None:
        """Set how many bytes of an unfinished request a connection holds.

        If all connections together then hold more than `UNAUTHENTICATED_BYTES`, close the oldest
        unauthenticated connections that hold bytes.

        Args:
            connection: the connection.
            size: number of bytes; 0 if the request is complete or refused, or if the connection
                is authenticated.
        """
        if size == connection.held_bytes:
            return
        self._held_bytes += size - connection.held_bytes
        connection.held_bytes = size
        if size:
            self._holding.setdefault(connection)
        else:
            self._holding.pop(connection, None)
        while self._held_bytes > UNAUTHENTICATED_BYTES and self._abort_oldest(self._holding):
            pass

    def _abort_oldest(self, candidates: dict[LimitedConnection, None]) -> bool:
        """Close the oldest unauthenticated connection that waits for input from its client.

        Returns:
            Whether a connection was closed.
        """
        for connection in list(candidates):
            if connection.is_authenticated():
                self._unauthenticated.pop(connection, None)
            elif connection.waits_for_client():
                self._unauthenticated.pop(connection, None)
                self.set_held_bytes(connection, 0)
                connection.abort()
                return True
        return False

    # Turns

    def schedule(self, connection: LimitedConnection) -> None:
        """Let a connection continue reading in a later turn.

        Connections continue in the order in which this method was called for them.
        """
        if connection.is_authenticated():
            self._scheduled.append(connection)
        else:
            self._scheduled_unauthenticated.append(connection)
        if not self._timer_runs:
            self._timer_runs = True
            self._call_later(0, self._run_turn)

    def _run_turn(self) -> None:
        now = perf_counter()
        while self._scheduled and perf_counter() - now < TURN_SECONDS:
            self._scheduled.popleft().continue_reading()
        if now >= self._unauthenticated_rest_until:
            for _ in range(min(UNAUTHENTICATED_TURNS, len(self._scheduled_unauthenticated))):
                self._scheduled_unauthenticated.popleft().continue_reading()
            self._unauthenticated_rest_until = now + UNAUTHENTICATED_REST_SECONDS
        self._timer_runs = bool(self._scheduled or self._scheduled_unauthenticated)
        if self._timer_runs:
            rest = REST_SECONDS if self._scheduled else UNAUTHENTICATED_REST_SECONDS
            self._call_later(rest, self._run_turn)


def connection_limit(configured: int | None, descriptors: int) -> int:
    """Return the maximum number of connections.

    Args:
        configured: the setting ``max_connections``, None for the default.
        descriptors: how many descriptors this process may have.
    """
    possible = max(descriptors - OTHER_DESCRIPTORS, descriptors // 2)
    return min(DEFAULT_CONNECTIONS if configured is None else configured, possible)
