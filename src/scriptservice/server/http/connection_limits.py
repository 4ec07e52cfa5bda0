"""What all connections may hold together: their number, and the bytes of clients not yet known.

A client is known once a request of its connection came with a valid token or session. Until then it
costs an attacker nothing to connect, so that whatever such connections hold is bounded here, and
taken from the oldest of them when there is no room. Known clients are never disturbed.
"""

from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

UNKNOWN_BYTES = 16 << 20
"""What clients that are not known may have sent of unfinished requests, all together."""

DEFAULT_CONNECTIONS = 10_000

OTHER_DESCRIPTORS = 200
"""Left for the database, the journal, the keeper and the files of the interpreter."""

TURN_SECONDS = 0.0005
REST_SECONDS = 0.002
"""Long input of known clients is read for at most a turn, then everybody else has the loop for as
long as a rest. Uvloop's timers have a resolution of one millisecond, so a shorter rest is none."""

UNKNOWN_TURNS = 2
UNKNOWN_REST_SECONDS = 0.008
"""Of unknown clients so many go on in a turn, each with at most one read of the loop, 256 KiB, and
then all rest: 64 MiB a second. They are counted, since a turn does not see what a read costs.
"""


class LimitedConnection(Protocol):
    """What is known here of a connection."""

    held_bytes: int

    def is_known(self) -> bool:
        """Return whether a request of it came with a valid token or session."""

    def waits_for_client(self) -> bool:
        """Return whether it is the client's turn to speak, not ours to answer."""

    def hang_up(self) -> None:
        """Close it at once."""

    def read_on(self) -> None:
        """Go on with what it has sent, for a short while; call `ConnectionLimits.later` if more is left."""


class ConnectionLimits:
    """All connections of a server.

    Args:
        limit: how many there may be.
        call_later: the loop's.

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
        self._unknown: dict[LimitedConnection, None] = {}
        self._holding: dict[LimitedConnection, None] = {}
        self._held_bytes = 0
        self._unread: deque[LimitedConnection] = deque()
        self._unread_unknown: deque[LimitedConnection] = deque()
        self._scheduled = False
        self._unknown_rest_until = 0.0
        self.on_full: Callable[[], None] = lambda: None
        self.on_room: Callable[[], None] = lambda: None

    def joined(self, connection: LimitedConnection) -> None:
        """There is a new connection; if it is one too many, close that of an unknown client."""
        self._number += 1
        if self._number > self._limit and not self._hang_up_one(self._unknown) and not self._full:
            self._full = True
            self.on_full()
        self._unknown[connection] = None

    def look(self) -> None:
        """Make room if there is none for new connections; to be called about once a second."""
        if self._full and self._number <= self._limit:
            self._hang_up_one(self._unknown)

    def left(self, connection: LimitedConnection) -> None:
        """A connection is closed."""
        self._number -= 1
        self._unknown.pop(connection, None)
        self.holds(connection, 0)
        if self._full and self._number < self._limit:
            self._full = False
            self.on_room()

    def holds(self, connection: LimitedConnection, size: int) -> None:
        """Note what an unknown client has sent of a request that cannot be answered yet.

        Args:
            connection: of the client.
            size: in bytes; 0 once the request is complete, refused, or the client known.
        """
        if size == connection.held_bytes:
            return
        self._held_bytes += size - connection.held_bytes
        connection.held_bytes = size
        if size:
            self._holding.setdefault(connection)
        else:
            self._holding.pop(connection, None)
        while self._held_bytes > UNKNOWN_BYTES and self._hang_up_one(self._holding):
            pass

    def _hang_up_one(self, candidates: dict[LimitedConnection, None]) -> bool:
        """Close the oldest connection of an unknown client that is not being answered."""
        for connection in list(candidates):
            if connection.is_known():
                self._unknown.pop(connection, None)
            elif connection.waits_for_client():
                self._unknown.pop(connection, None)
                self.holds(connection, 0)
                connection.hang_up()
                return True
        return False

    # Turns

    def later(self, connection: LimitedConnection) -> None:
        """Let a connection go on with its input once it is its turn: first come, first served."""
        (self._unread if connection.is_known() else self._unread_unknown).append(connection)
        if not self._scheduled:
            self._scheduled = True
            self._call_later(0, self._read_on)

    def _read_on(self) -> None:
        began = perf_counter()
        while self._unread and perf_counter() - began < TURN_SECONDS:
            self._unread.popleft().read_on()
        if began >= self._unknown_rest_until:
            for _ in range(min(UNKNOWN_TURNS, len(self._unread_unknown))):
                self._unread_unknown.popleft().read_on()
            self._unknown_rest_until = began + UNKNOWN_REST_SECONDS
        self._scheduled = bool(self._unread or self._unread_unknown)
        if self._scheduled:
            rest = REST_SECONDS if self._unread else UNKNOWN_REST_SECONDS
            self._call_later(rest, self._read_on)


def connection_limit(wanted: int | None, descriptors: int) -> int:
    """Return how many connections there may be.

    Args:
        wanted: by the settings, None for the default.
        descriptors: how many this process may have.
    """
    possible = max(descriptors - OTHER_DESCRIPTORS, descriptors // 2)
    return min(DEFAULT_CONNECTIONS if wanted is None else wanted, possible)
