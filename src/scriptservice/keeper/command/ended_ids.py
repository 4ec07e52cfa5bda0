"""The ids of commands that have ended: refused a second time for as long as they may come again."""

from collections import deque

from scriptservice.keeper.journal.journal import Journal
from scriptservice.keeper.upgrade_state import EndedIdsState


class EndedIds:
    """Remembers ended commands until nobody can send them again.

    A child that takes over sends again what the database shows as not started; what it read there
    may be older than what was recorded since. So an id is kept until its end is recorded and the
    present child has said that it sends nothing old any more.

    Args:
        journal: knows what is written and what is recorded.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._ids: set[str] = set()
        self._given_back: set[str] = set()
        self._written: deque[tuple[int, str]] = deque()
        self._unwritten: list[str] = []
        self._child_has_adopted = False

    def to_state(self) -> EndedIdsState:
        """Return all of it, for the keeper's next program."""
        return EndedIdsState(
            ids=sorted(self._ids),
            written=list(self._written),
            unwritten=list(self._unwritten),
            child_has_adopted=self._child_has_adopted,
            given_back=sorted(self._given_back),
        )

    def restore(self, state: EndedIdsState) -> None:
        """Remember what the keeper's program before this one did."""
        self._ids = set(state.ids)
        self._written = deque(state.written)
        self._unwritten = list(state.unwritten)
        self._child_has_adopted = state.child_has_adopted
        self._given_back = set(state.given_back)

    def __contains__(self, command: str) -> bool:
        return command in self._ids

    @property
    def unwritten(self) -> list[str]:
        """Those of which not even the journal knows: it waits for room on the disk."""
        return list(self._unwritten)

    def was_given_back(self, command: str) -> bool:
        """Whether one of these commands may come again later: it was not started."""
        return command in self._given_back

    def add(self, command: str, *, given_back: bool = False) -> None:
        """A command has ended, or is given back unstarted."""
        self._ids.add(command)
        if given_back:
            self._given_back.add(command)
        if self._journal.has_pending:
            self._unwritten.append(command)
        else:
            self._written.append((self._journal.end, command))

    def room_again(self) -> None:
        """What waited for room on the disk is written now."""
        self._written += [(self._journal.end, command) for command in self._unwritten]
        self._unwritten.clear()

    def child_adopted(self) -> None:
        """The child has sent again whatever it had to."""
        self._child_has_adopted = True
        self.recorded()

    def child_gone(self) -> None:
        """Another child will take over."""
        self._child_has_adopted = False

    def recorded(self) -> None:
        """More of the journal is recorded."""
        if not self._child_has_adopted:
            return
        while self._written and self._written[0][0] <= self._journal.stored_position:
            command = self._written.popleft()[1]
            self._ids.discard(command)
            self._given_back.discard(command)
