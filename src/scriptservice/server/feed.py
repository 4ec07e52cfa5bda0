"""The feed: wakes those who wait for news of a command, after the news is committed.

It carries no news itself: whoever is woken reads the store.
"""

import asyncio
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from uuid import UUID


class Follower(StrEnum):
    """What somebody follows a command for."""

    OUTPUT = "output"
    EVENTS = "events"
    WAIT = "wait"


class Feed:
    """Who waits for which command, in this process.

    Attributes:
        followers: how many there are of each kind.
        changes: how often there was news of any command.
        draining: the service ends its scripts; who follows goes on, who waits is answered.
        closing: the server ends.
    """

    def __init__(self) -> None:
        self._waiting: dict[UUID, dict[asyncio.Event, Follower]] = {}
        self.followers = dict.fromkeys(Follower, 0)
        self.changes = 0
        self.closing = False
        self.draining = False

    @contextmanager
    def subscription(self, command: UUID, kind: Follower) -> Iterator[asyncio.Event]:
        """Give an event that is set at each news of a command, and when the feed closes.

        For who waits for its end, only at the news that may be that, and when the feed drains.
        """
        event = asyncio.Event()
        if self.closing:
            event.set()
        self._waiting.setdefault(command, {})[event] = kind
        self.followers[kind] += 1
        try:
            yield event
        finally:
            self.followers[kind] -= 1
            waiting = self._waiting[command]
            del waiting[event]
            if not waiting:
                del self._waiting[command]

    def notify(self, commands: Iterable[UUID], *, ended: Container[UUID] | None = None) -> None:
        """Wake those who wait for any of these.

        Args:
            commands: of which there is news.
            ended: those of them that may be at their end; all of them if that is not said.
        """
        self.changes += 1
        for command in commands:
            may_be_end = ended is None or command in ended
            for event, kind in self._waiting.get(command, {}).items():
                if may_be_end or kind is not Follower.WAIT:
                    event.set()

    def drain(self) -> None:
        """Wake everyone: the service ends, and who waits for an end is answered now."""
        self.draining = True
        self.notify(list(self._waiting))

    def close(self) -> None:
        """Wake everyone for the last time: the server ends."""
        self.closing = self.draining = True
        self.notify(list(self._waiting))
