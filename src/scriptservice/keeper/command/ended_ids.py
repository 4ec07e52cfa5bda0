"""The ids of commands that have ended; the keeper refuses to start them again."""

from collections import deque

from scriptservice.keeper.journal.journal import Journal
from scriptservice.keeper.upgrade_state import EndedIdsState


class EndedIds:
    """Remembers the id of an ended command for as long as the server may send the command again.

    A server that takes over reads from the database which commands were not started, and sends
    these commands again. The previous server may have stored the end of such a command after that
    read. So an id is kept until two things are true: the command's end is stored in the database,
    and the present server has reported that it has sent all such commands.

    Args:
        journal: tells how far the journal is written and how far it is stored in the database.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._ids: set[str] = set()
        self._given_back: set[str] = set()
        self._written: deque[tuple[int, str]] = deque()
        self._unwritten: list[str] = []
        self._child_has_adopted = False

    def to_state(self) -> EndedIdsState:
        """Return all ids, for the keeper's next program."""
        return EndedIdsState(
            ids=sorted(self._ids),
            written=list(self._written),
            unwritten=list(self._unwritten),
            child_has_adopted=self._child_has_adopted,
            given_back=sorted(self._given_back),
        )

    def restore(self, state: EndedIdsState) -> None:
        """Continue from the state of the previous program."""
        self._ids = set(state.ids)
        self._written = deque(state.written)
        self._unwritten = list(state.unwritten)
        self._child_has_adopted = state.child_has_adopted
        self._given_back = set(state.given_back)

    def __contains__(self, command_id: str) -> bool:
        return command_id in self._ids

    @property
    def unwritten(self) -> list[str]:
        """The ids of commands whose end is not in the journal yet, because the disk is full."""
        return list(self._unwritten)

    def was_given_back(self, command_id: str) -> bool:
        """Return whether the server may send an ended command again, since it was not started."""
        return command_id in self._given_back

    def add(self, command_id: str, *, given_back: bool = False) -> None:
        """Add a command that has ended.

        Args:
            command_id: the command's UUID.
            given_back: whether the command was not started, and the server may send it again later.
        """
        self._ids.add(command_id)
        if given_back:
            self._given_back.add(command_id)
        if self._journal.has_pending:
            self._unwritten.append(command_id)
        else:
            self._written.append((self._journal.end, command_id))

    def pending_written(self) -> None:
        """Note that all records that waited for room on the disk are now in the journal."""
        self._written += [(self._journal.end, command_id) for command_id in self._unwritten]
        self._unwritten.clear()

    def child_adopted(self) -> None:
        """Note that the present server has sent again all commands that were not started."""
        self._child_has_adopted = True
        self.journal_stored()

    def child_gone(self) -> None:
        """Note that the server has exited; the next server may send commands again."""
        self._child_has_adopted = False

    def journal_stored(self) -> None:
        """Forget the ids of commands whose ends are now stored in the database.

        No id is forgotten before the present server has sent all commands that it has to send
        again.
        """
        if not self._child_has_adopted:
            return
        while self._written and self._written[0][0] <= self._journal.stored_position:
            command_id = self._written.popleft()[1]
            self._ids.discard(command_id)
            self._given_back.discard(command_id)
