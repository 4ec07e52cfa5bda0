"""Room for large request bodies: all that are being read and acted upon share one budget.

A body that finds no room is not read: its client waits, held back by the flow control of its
connection, for a few seconds, then it is told to come back. First come, first served: a small one
does not overtake a large one, which would never find room otherwise.

A body keeps its room until it is stored; how long it may take to arrive is bounded in `punctual`.
"""

import asyncio
from collections import deque

from scriptservice.server.http.client_protocol import LARGE_BODY_BYTES
from scriptservice.server.http.problem_responses import ProblemError

BUDGET_BYTES = 32 << 20
WAIT_SECONDS = 10.0

MOST_WAITING = 64
"""Each of them may have as much as one read of the loop in memory, 256 KiB."""


class BodyBudget:
    """The bytes that large bodies may hold together.

    Args:
        limit: in bytes; at least that of the largest body.
        wait_seconds: how long one waits for room.
    """

    def __init__(self, limit: int = BUDGET_BYTES, wait_seconds: float = WAIT_SECONDS) -> None:
        self._free = limit
        self._wait_seconds = wait_seconds
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> "BodyShare":
        """Wait for room; return it.

        Args:
            size: in bytes.

        Raises:
            ProblemError: there is none for too long.
        """
        if self._waiting or size > self._free:
            if len(self._waiting) >= MOST_WAITING:
                raise _no_room()
            await self._wait(size)
        else:
            self._free -= size
        return BodyShare(self, size)

    async def _wait(self, size: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, turn)
        self._waiting.append(entry)
        try:
            await asyncio.wait({turn}, timeout=self._wait_seconds)
        except asyncio.CancelledError:
            self._forget(entry)
            raise
        if not turn.done():
            self._forget(entry)
            raise _no_room()

    def _forget(self, entry: tuple[int, asyncio.Future[None]]) -> None:
        size, turn = entry
        if turn.done():
            self.give_back(size)  # it was admitted in the same moment
        else:
            self._waiting.remove(entry)
            self._admit()  # a smaller one may have stood behind it

    def give_back(self, size: int) -> None:
        """Let those that wait have room, in their order.

        Args:
            size: in bytes.
        """
        self._free += size
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, turn = self._waiting.popleft()
            self._free -= size
            turn.set_result(None)


class BodyShare:
    """The room of one body.

    Args:
        budget: whose.
        size: in bytes.
    """

    def __init__(self, budget: BodyBudget, size: int) -> None:
        self._budget = budget
        self._size = size

    def shrink(self, size: int) -> None:
        """Give back what is more than a size in bytes."""
        if size < self._size:
            more, self._size = self._size - size, size
            self._budget.give_back(more)

    def release(self) -> None:
        """Give all of it back; again: nothing."""
        self.shrink(0)


def is_large(size: int) -> bool:
    """Return whether a body of a size in bytes needs room in the budget."""
    return size > LARGE_BODY_BYTES


def _no_room() -> ProblemError:
    # What a client does about it is the same as for a store that is busy.
    detail = "cannot take so large a body now: others are being read; repeat the request"
    return ProblemError("store-unavailable", detail, headers={"Retry-After": "5"})
