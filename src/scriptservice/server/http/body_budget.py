"""A memory budget that all large request bodies share.

If the budget has no room for a body, the service does not read the body, so flow control makes the
client wait. If there is still no room after `WAIT_SECONDS`, the client gets 503 with Retry-After.
Bodies get room in the order of their arrival. If small bodies could overtake a large body, the
large body might never get room.

A body keeps its share of the budget until the request is stored. ``request_limits`` says how long a
body may take to arrive.
"""

import asyncio
from collections import deque

from scriptservice.server.http.problem_responses import ProblemError
from scriptservice.server.http.request_limits import LARGE_BODY_BYTES

BUDGET_BYTES = 32 << 20
WAIT_SECONDS = 10.0

MAX_WAITING = 64
"""Maximum number of bodies that may wait for room. For each of them, the bytes of one read of the
event loop may already be in memory, up to 256 KiB."""


class BodyBudget:
    """The number of bytes that large bodies may occupy together.

    Args:
        limit: the budget in bytes, at least the size of the largest body.
        wait_seconds: longest time that a body waits for room.
    """

    def __init__(self, limit: int = BUDGET_BYTES, wait_seconds: float = WAIT_SECONDS) -> None:
        self._free = limit
        self._wait_seconds = wait_seconds
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> "BodyShare":
        """Wait until the budget has room for a body, and take the room.

        Args:
            size: the body's size in bytes.

        Raises:
            ProblemError: there was no room within ``wait_seconds``, or too many bodies already
                wait.
        """
        if self._waiting or size > self._free:
            if len(self._waiting) >= MAX_WAITING:
                raise _no_room()
            await self._wait(size)
        else:
            self._free -= size
        return BodyShare(self, size)

    async def _wait(self, size: int) -> None:
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, admitted)
        self._waiting.append(entry)
        try:
            await asyncio.wait({admitted}, timeout=self._wait_seconds)
        except asyncio.CancelledError:
            self._leave_queue(entry)
            raise
        if not admitted.done():
            self._leave_queue(entry)
            raise _no_room()

    def _leave_queue(self, entry: tuple[int, asyncio.Future[None]]) -> None:
        size, admitted = entry
        if admitted.done():
            # The body was admitted and its request was cancelled in the same turn of the loop.
            self.give_back(size)
        else:
            self._waiting.remove(entry)
            self._admit()  # the next body in the queue may be smaller and fit now

    def give_back(self, size: int) -> None:
        """Return room to the budget and admit waiting bodies in their order.

        Args:
            size: the room in bytes.
        """
        self._free += size
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, admitted = self._waiting.popleft()
            self._free -= size
            admitted.set_result(None)


class BodyShare:
    """One body's share of the budget.

    Args:
        budget: the budget.
        size: the share in bytes.
    """

    def __init__(self, budget: BodyBudget, size: int) -> None:
        self._budget = budget
        self._size = size

    def shrink(self, size: int) -> None:
        """Reduce the share to ``size`` bytes; return the rest to the budget."""
        if size < self._size:
            surplus, self._size = self._size - size, size
            self._budget.give_back(surplus)

    def release(self) -> None:
        """Return the whole share to the budget. A second call does nothing."""
        self.shrink(0)


def is_large(size: int) -> bool:
    """Return whether a body of this size in bytes needs a share of the budget."""
    return size > LARGE_BODY_BYTES


def _no_room() -> ProblemError:
    # The client should react in the same way as to a busy database, so use the same problem type.
    detail = "too many large bodies are being read at present; repeat the request later"
    return ProblemError("store-unavailable", detail, headers={"Retry-After": "5"})
