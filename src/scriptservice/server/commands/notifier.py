"""The feed: wakes those who wait for news of a command, after the news is committed.

It carries no news itself: whoever is woken reads the store. Only an end is so short that it is
handed to those who wait for one.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from uuid import UUID

from scriptservice.fleet.notifications import Step


class FollowerKind(StrEnum):
    """What somebody follows a command for."""

    OUTPUT = "output"
    EVENTS = "events"
    WAIT = "wait"


class Subscription(asyncio.Event):
    """Set when there is news for who holds it.

    Attributes:
        end: the last step of the command, where that is the news and whoever told it knew.
    """

    end: Step | None = None


class Notifier:
    """Who waits for which command, in this process.

    Attributes:
        followers: how many there are of each kind.
        changes: how often there was news of any command.
        draining: the service ends its scripts; who follows goes on, who waits is answered.
        closing: the server ends.
    """

    def __init__(self) -> None:
        self._waiting: dict[UUID, dict[Subscription, FollowerKind]] = {}
        self.followers = dict.fromkeys(FollowerKind, 0)
        self.changes = 0
        self.closing = False
        self.draining = False

    @contextmanager
    def subscription(self, command: UUID, kind: FollowerKind) -> Iterator[Subscription]:
        """Give an event that is set at each news of a command, and when the feed closes.

        For who waits for its end, only at the news that may be that, and when the feed drains.
        What is set stays so until it is cleared.
        """
        event = Subscription()
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

    def notify(
        self, commands: Iterable[UUID], *, ended: Mapping[UUID, Step | None] | None = None
    ) -> None:
        """Wake those who wait for any of these.

        Args:
            commands: of which there is news.
            ended: those of them that may be at their end, and their last step where it is known;
                all of them if that is not said.
        """
        self.changes += 1
        for command in commands:
            may_be_end = ended is None or command in ended
            for event, kind in self._waiting.get(command, {}).items():
                if may_be_end or kind is not FollowerKind.WAIT:
                    event.end = ended.get(command) if ended else None
                    event.set()

    def drain(self) -> None:
        """Wake everyone: the service ends, and who waits for an end is answered now."""
        self.draining = True
        self.notify(list(self._waiting))

    def close(self) -> None:
        """Wake everyone for the last time: the server ends."""
        self.closing = self.draining = True
        self.notify(list(self._waiting))
