"""Wakes requests that follow a command, after a change of it is committed.

A notification carries no data: the woken request reads the store. The exception is a command's
last step, which is small and is passed to the requests that wait for the end.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from uuid import UUID

from scriptservice.fleet.notifications import StatusChange


class FollowerKind(StrEnum):
    """What a request follows a command for."""

    OUTPUT = "output"
    EVENTS = "events"
    WAIT = "wait"


class Subscription(asyncio.Event):
    """An event that is set when the command changes; the subscriber clears it.

    Attributes:
        end: the command's last step, if the last notification was its end and knew the step.
    """

    end: StatusChange | None = None


class Notifier:
    """The subscriptions of this process, by command.

    Attributes:
        followers: number of subscriptions, by kind.
        changes: number of notifications so far, for any command.
        draining: the service is shutting down: followers go on until their commands end, and
            requests that wait for an end are answered.
        closing: the server is ending: followers are cut off.
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

        A subscription of the kind ``WAIT`` is only set when the command may have ended, or when
        the notifier drains or closes; the others are set at every change and when it closes.
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
            ended: those of them that may have ended, each with its last step if that is known.
                None: any of them may have ended.
        """
        self.changes += 1
        for command_id in command_ids:
            may_have_ended = ended is None or command_id in ended
            for subscription, kind in self._subscriptions.get(command_id, {}).items():
                if may_have_ended or kind is not FollowerKind.WAIT:
                    subscription.end = ended.get(command_id) if ended else None
                    subscription.set()

    def drain(self) -> None:
        """Wake every subscriber: the service is shutting down."""
        self.draining = True
        self.notify(list(self._subscriptions))

    def close(self) -> None:
        """Wake every subscriber for the last time: the server is ending."""
        self.closing = self.draining = True
        self.notify(list(self._subscriptions))
