"""Limits on what all connections use together: their number, and the bytes of unfinished requests.

A connection is authenticated once one of its requests came with a valid token or session. Until
then it costs an attacker nothing, so the resources of such connections are bounded here: when they
run out, the oldest unauthenticated connection is closed. Authenticated ones are never closed.
"""

from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

UNAUTHENTICATED_BYTES = 16 << 20
"""Bytes of unfinished requests that all unauthenticated connections may hold together."""

DEFAULT_CONNECTIONS = 10_000

OTHER_DESCRIPTORS = 200
"""Left for the database, the journal, the keeper and the files of the interpreter."""

TURN_SECONDS = 0.0005
REST_SECONDS = 0.002
"""Long input of authenticated connections is read for at most a turn, then the event loop serves
everything else for as long as a rest. Uvloop's timers have a resolution of one millisecond, so a
shorter rest would be none."""

UNAUTHENTICATED_TURNS = 2
UNAUTHENTICATED_REST_SECONDS = 0.008
"""At most this many unauthenticated connections are read in a turn, each with at most one read of
the loop, 256 KiB. Then all of them rest: 64 MiB a second. They are counted rather than timed,
since the time of a turn does not include what the loop's read costs.
"""


class LimitedConnection(Protocol):
    """A connection, as `ConnectionLimits` sees it.

    Attributes:
        held_bytes: bytes of an unfinished request; set by `ConnectionLimits`.
    """

    held_bytes: int

    def is_authenticated(self) -> bool:
        """Return whether a request of this connection came with a valid token or session."""

    def waits_for_client(self) -> bool:
        """Return whether the client has to send something next, instead of being answered."""

    def abort(self) -> None:
        """Close the connection at once."""

    def continue_reading(self) -> None:
        """Process a bounded part of the input; call `ConnectionLimits.schedule` if more is left."""


class ConnectionLimits:
    """The connections of a server.

    Args:
        limit: how many there may be.
        call_later: the event loop's method.

    Attributes:
        on_full: called when no connection can be closed for a new one: accept no more.
        on_room: called when there is room again.
    """

    def __init__(self, limit: int, call_later: Callable[..., object]) -> None:
        self._limit = limit
        self._call_later = call_later
        self._number = 0
        self._full = False
        # Dictionaries keep the order of insertion: the first is the oldest.
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
        """A connection was opened. If it is one too many, close an unauthenticated one."""
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
        """While the server is full, close an unauthenticated connection; call once a second."""
        if self._full and self._number <= self._limit:
            self._abort_oldest(self._unauthenticated)

    def closed(self, connection: LimitedConnection) -> None:
        """A connection was closed."""
        self._number -= 1
        self._unauthenticated.pop(connection, None)
        self.set_held_bytes(connection, 0)
        if self._full and self._number < self._limit:
            self._full = False
            self.on_room()

    def set_held_bytes(self, connection: LimitedConnection, size: int) -> None:
        """Set how much a connection holds of an unfinished request; make room if it is too much.

        Args:
            connection: the connection.
            size: the bytes held; 0 if the request is complete or refused, or if the connection
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
        """Close the oldest unauthenticated connection that waits for its client, if there is one.

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
        """Let a connection continue reading when its turn comes: first come, first served."""
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
    """Return how many connections there may be.

    Args:
        configured: the setting, None for the default.
        descriptors: how many descriptors this process may have.
    """
    possible = max(descriptors - OTHER_DESCRIPTORS, descriptors // 2)
    return min(DEFAULT_CONNECTIONS if configured is None else configured, possible)
