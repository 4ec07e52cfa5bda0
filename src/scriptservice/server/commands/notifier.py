"""Wakes requests that follow a command, after a change of the command is committed.

Most notifications carry no data: the woken request reads the store. There is one exception. The
status change that ends a command is small, so requests that wait for the end get this change.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from uuid import UUID

from scriptservice.fleet.notifications import StatusChange


class FollowerKind(StrEnum):
    """The reason for which a request follows a command."""

    OUTPUT = "output"
    EVENTS = "events"
    WAIT = "wait"
    ATTACH = "attach"


class Subscription(asyncio.Event):
    """An event that is set when the command changes; the subscriber clears it.

    Attributes:
        end: the status change that ended the command; None if the last notification did not have
            this change.
    """

    end: StatusChange | None = None


class Notifier:
    """The subscriptions of this process, by command.

    Attributes:
        followers: number of subscriptions, by kind.
        changes: number of notifications so far, for any command.
        draining: whether the service is shutting down. In this state, followers continue until
            their commands end, and requests that wait for an end are answered at once.
        closing: whether the server is ending. In this state, followers are disconnected.
    """

    def __init__(self) -> None:
        self._subscriptions: dict[UUID, dict[Subscription, FollowerKind]] = {}
        self.followers = dict.fromkeys(FollowerKind, 0)
        self.changes = 0
        self.closing = False
        self.draining = False

    @contextmanager
    def subscribe(self, command_id: UUID, kind: FollowerKind) -> Iterator[Subscription]:
        """Subscribe to a command's changes for the duration of a ``with`` block.

        The notifier sets the subscription when the command may have ended, and when the notifier
        drains or closes. If ``kind`` is not ``WAIT``, it also sets the subscription at every other
        change of the command.
        """
        subscription = Subscription()
        if self.closing:
            subscription.set()
        self._subscriptions.setdefault(command_id, {})[subscription] = kind
        self.followers[kind] += 1
        try:
            yield subscription
        finally:
            self.followers[kind] -= 1
            others = self._subscriptions[command_id]
            del others[subscription]
            if not others:
                del self._subscriptions[command_id]

    def notify(
        self,
        command_ids: Iterable[UUID],
        *,
        ended: Mapping[UUID, StatusChange | None] | None = None,
    ) -> None:
        """Wake the subscribers of commands.

        Args:
            command_ids: the commands that have changed.
            ended: the commands that may have ended, each with the status change that ended it. The
                change is None if it is not known. If ``ended`` itself is None, each of
                ``command_ids`` may have ended.
        """
        self.changes += 1
        for command_id in command_ids:
            may_have_ended = ended is None or command_id in ended
            for subscription, kind in self._subscriptions.get(command_id, {}).items():
                if may_have_ended or kind is not FollowerKind.WAIT:
                    subscription.end = ended.get(command_id) if ended else None
                    subscription.set()

    def drain(self) -> None:
        """Wake every subscriber, because the service is shutting down."""
        self.draining = True
        self.notify(list(self._subscriptions))

    def close(self) -> None:
        """Wake every subscriber for the last time, because the server is ending."""
        self.closing = self.draining = True
        self.notify(list(self._subscriptions))
