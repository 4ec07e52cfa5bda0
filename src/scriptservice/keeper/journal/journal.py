"""The journal as the rest of the keeper uses it: it never refuses, and says when to wait.

What happened is never dropped: while the disk is full, records wait here in memory, in order, and
output waits in its pipe. One timer retries for all. Output also waits while too much is not yet
recorded, so that a script that prints faster than the database stores neither fills the disk nor
delays the output of others.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol
from uuid import UUID

from scriptservice.keeper.journal.journal_writer import JournalWriter, NoRoomError
from scriptservice.keeper.system.event_loop import Loop
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.upgrade_state import JournalState, PendingRecord
from scriptservice.protocol.clock import now_us
from scriptservice.protocol.journal_format import Kind, id_bytes

_FOLLOWED = frozenset({Kind.STARTING, Kind.STARTED, Kind.EXITED})
RETRY_SECONDS = 0.25
PACE_SECONDS = 1.0


class PausedReader(Protocol):
    """Output that waits in its pipe until there is room."""

    def resume(self) -> None:
        """Try again; called once for each wait."""


class Journal:
    """Records what happened, now or as soon as there is room.

    Args:
        writer: the journal.
        loop: for the retry timer.
        spool_limit_bytes: unrecorded bytes beyond which output waits.

    Attributes:
        recorded: up to where the journal is in the database.
        news_end: the end of the last record that is not mostly followed by more at once.
        on_room: called when there is room again.
    """

    def __init__(self, writer: JournalWriter, loop: Loop, *, spool_limit_bytes: int) -> None:
        self._writer = writer
        self._loop = loop
        self._spool_limit_bytes = spool_limit_bytes
        self._pending: deque[tuple[Kind, bytes, dict[str, Any], int, int]] = deque()
        self._stalled: dict[int, PausedReader] = {}
        self._paced: dict[int, tuple[int, PausedReader]] = {}
        self._retrying = self._told_full = False
        self._consumer_acts = False
        self._recorded_since_check = False
        self.recorded = 0
        self.news_end = writer.end
        self.on_room: Callable[[], None] = lambda: None
        loop.after(PACE_SECONDS, self._check_pace)

    def handed(self) -> JournalState:
        """Return what is not on the disk, for the keeper's next program."""
        return JournalState(
            journal=str(self._writer.id),
            end=self._writer.end,
            recorded=self.recorded,
            pending=[
                PendingRecord(kind, str(UUID(bytes=command)), fields, position, time_us)
                for kind, command, fields, position, time_us in self._pending
            ],
            told_full=self._told_full,
            consumer_acts=self._consumer_acts,
        )

    def restore(self, state: JournalState) -> None:
        """Go on where the keeper's program before this one was.

        Output that waited is not in it: its pipe is read again, and then it waits again.
        """
        self.recorded = state.recorded
        self._pending.extend(
            (Kind(each.kind), UUID(each.command).bytes, each.fields, each.position, each.time_us)
            for each in state.pending
        )
        self._told_full = state.told_full
        self._consumer_acts = self._recorded_since_check = state.consumer_acts
        if self._pending or self._told_full:
            self._retry_later()

    @property
    def end(self) -> int:
        """The journal position after the last record that is written."""
        return self._writer.end

    @property
    def behind(self) -> bool:
        """Whether records wait for room on the disk."""
        return bool(self._pending)

    @property
    def full(self) -> bool:
        """Whether something waits for room on the disk or in the spool."""
        return bool(self._pending or self._stalled)

    @property
    def unrecorded_bytes(self) -> int:
        """How much of the journal is not yet in the database."""
        return max(0, self._writer.end - max(self.recorded, self._writer.first))

    def must_record(self, kind: Kind, command: str, fields: dict[str, Any]) -> None:
        """Record now what must be on record before the next step.

        Raises:
            NoRoomError: it is not recorded; try again after `on_room`.
        """
        if self._pending:
            raise NoRoomError(kind.name)
        try:
            self._writer.append(kind, id_bytes(command), fields, 0, now_us())
        except NoRoomError:
            self._retry_later()
            raise

    def record(self, kind: Kind, command: str, fields: dict[str, Any], position: int = 0) -> None:
        """Record that something happened, now or when there is room; the time is now's.

        Args:
            kind: what happened.
            command: to which command, its UUID.
            fields: the payload.
            position: the command's merged output so far.
        """
        entry = (kind, id_bytes(command), fields, position, now_us())
        if not self._pending:
            try:
                self._writer.append(*entry)
            except NoRoomError:
                self._retry_later()
            else:
                if kind not in _FOLLOWED:
                    self.news_end = self._writer.end
                return
        self._pending.append(entry)

    def splice(self, pipe: int, length: int, command: bytes, stream: int, position: int) -> int:
        """Move output to the journal; see `JournalWriter.splice`.

        Raises:
            NoRoomError: nothing was taken; `wait_for_room`.
        """
        if self._pending or self.unrecorded_bytes > self._spool_limit_bytes:
            raise NoRoomError("output")
        moved = self._writer.splice(pipe, length, command, stream, position)
        self.news_end = self._writer.end
        return moved

    def wait_for_room(self, key: int, waiting: PausedReader) -> None:
        """Resume this output when there is room; ``key`` is its descriptor."""
        self._stalled[key] = waiting
        self._retry_later()

    def must_wait_for(self, position: int) -> bool:
        """Whether output should wait until a position is recorded: while somebody records."""
        return self._consumer_acts and self.recorded < position

    def wait_for_recording(self, key: int, position: int, waiting: PausedReader) -> None:
        """Resume this output once a position is recorded, or nobody records any more."""
        self._paced[key] = (position, waiting)

    def cancel_wait(self, key: int) -> None:
        """Resume this output no more: its descriptor is closed."""
        self._stalled.pop(key, None)
        self._paced.pop(key, None)

    def recorded_to(self, position: int) -> None:
        """Take note that everything before a position is in the database."""
        self.recorded = max(self.recorded, min(position, self._writer.end))
        self._consumer_acts = self._recorded_since_check = True
        self._writer.drop(self.recorded)
        if self._paced:
            ready = [key for key, (wanted, _) in self._paced.items() if wanted <= self.recorded]
            for key in ready:
                # The one before may have ended its command, and with it this wait.
                if waiting := self._paced.pop(key, None):
                    waiting[1].resume()

    def consumer_gone(self) -> None:
        """Take note that nobody records now: scripts must go on all the same."""
        self._consumer_acts = False
        paced, self._paced = self._paced, {}
        for _, waiting in paced.values():
            waiting.resume()

    def _check_pace(self) -> None:
        if self._paced and not self._recorded_since_check:
            self.consumer_gone()
        self._recorded_since_check = False
        self._loop.after(PACE_SECONDS, self._check_pace)

    def _retry_later(self) -> None:
        if not self._retrying:
            self._retrying = True
            if not self._told_full:
                self._told_full = True
                logger.warning("no_room", detail="scripts that print wait")
            self._loop.after(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        try:
            while self._pending:
                self._writer.append(*self._pending[0])
                self._pending.popleft()
                self.news_end = self._writer.end
        except NoRoomError:
            self._loop.after(RETRY_SECONDS, self._retry)
            return
        self._retrying = False
        stalled, self._stalled = self._stalled, {}
        for waiting in stalled.values():
            waiting.resume()
        self.on_room()
        if not self.full:
            self._told_full = False
            logger.info("room_again")
