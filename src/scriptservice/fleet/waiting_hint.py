"""Whether a waiting command may be able to start, as far as one dispatcher knows.

The database decides which commands wait and which of them may start. This module only remembers
whether it is worth asking. If in doubt, the answer is yes. The module does no I/O.
"""

from collections.abc import Set as AbstractSet
from uuid import UUID


class WaitingHint:
    """Tells a dispatcher whether to look for waiting commands.

    Attributes:
        may_start: whether a waiting command may be able to start now, if the keeper has room. While
            this is True, no new command may start at once, because it could overtake that command.
    """

    def __init__(self) -> None:
        # Commands of an earlier server may wait in the database.
        self.may_start = True
        self._has_blocked = False
        self._holders: set[UUID] = set()
        self._changes = 0

    def command_waits(self) -> None:
        """Note that a command was stored without a dispatch mark, or was given back."""
        self._changes += 1
        self.may_start = True

    def sent(self, command_id: UUID, *, has_key: bool) -> None:
        """Note that a command was sent to the keeper."""
        if has_key:
            self._holders.add(command_id)

    def ended(self, command_ids: AbstractSet[UUID]) -> None:
        """Note that commands which were sent have ended or were given back."""
        if not self._holders.isdisjoint(command_ids):
            self._holders -= command_ids
            self.key_changed()

    def key_changed(self) -> None:
        """Note that another command of some concurrency key may be next, or that a key is free."""
        self._changes += 1
        if self._has_blocked:
            self.may_start = True

    def begin_look(self) -> int:
        """Return a number to pass to `end_look`, before waiting commands are looked for."""
        return self._changes

    def end_look(self, begun: int, *, is_blocked: bool) -> None:
        """Note that no more waiting commands may start than were just found.

        Args:
            begun: what `begin_look` has returned. If anything has changed since, the look may have
                missed the change, so the dispatcher has to look again.
            is_blocked: whether commands are left that wait for their concurrency key.
        """
        if begun == self._changes:
            self.may_start = False
            self._has_blocked = is_blocked
