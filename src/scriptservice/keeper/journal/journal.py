"""The journal as the rest of the keeper uses it: no event is lost when the disk is full.

While the disk is full, event records wait in memory, in order, and output waits in its pipe. One
timer retries all waiting records and pipes. Output also waits while too much of the journal is not
yet stored in the database. So a script that prints faster than the database stores does not fill
the disk, and does not delay the output of other scripts.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from scriptservice.keeper.journal.journal_writer import JournalWriter, NoRoomError
from scriptservice.keeper.system.event_loop import CallbackOwner, EventLoop, Pause, Timer
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.upgrade_state import JournalState, PendingRecord
from scriptservice.protocol.clock import now_us
from scriptservice.protocol.journal_format import Kind, id_bytes

_SOON_FOLLOWED = frozenset({Kind.STARTING, Kind.STARTED, Kind.EXITED})
RETRY_SECONDS = 0.25
RECORDER_CHECK_SECONDS = 1.0


class PausedReader(CallbackOwner, Protocol):
    """A reader of a pipe that is paused until the journal can take the pipe's output.

    If `resume` fails, the reader is told so by `callback_failed`; the journal does not call
    `resume` again.
    """

    def resume(self) -> None:
        """Read the pipe again; called once for each wait."""


class Journal:
    """Appends event records and output, now or as soon as there is room.

    Args:
        writer: writes the journal's files.
        loop: runs the retry timer.
        spool_limit_bytes: limit for the part of the journal that is not yet stored in the database,
            in bytes. Output waits while this part is larger than the limit.

    Attributes:
        stored_position: everything before this journal position is stored in the database.
        urgent_end: the journal position after the last urgent record. The child should read the
            journal up to this position at once. STARTING, STARTED and EXITED records are not
            urgent, because another record usually follows soon.
        on_room: called when the disk has room again.
    """

    def __init__(self, writer: JournalWriter, loop: EventLoop, *, spool_limit_bytes: int) -> None:
        self._writer = writer
        self._event_loop = loop
        self._loop = loop.supervised(self)
        self._spool_limit_bytes = spool_limit_bytes
        self._pending: deque[tuple[Kind, bytes, dict[str, Any], int, int]] = deque()
        self._waiting_for_room: dict[int, PausedReader] = {}
        self._waiting_until_stored: dict[int, tuple[int, PausedReader]] = {}
        self._retry_timer: Timer | None = None
        self._retry_pause = Pause()
        self._logged_full = False
        self._reason = ""
        self._recorder_active = False
        self._stored_since_check = False
        self.stored_position = 0
        self.urgent_end = writer.end
        self.on_room: Callable[[], None] = lambda: None
        self._check_timer = self._loop.after(RECORDER_CHECK_SECONDS, self._check_recorder)

    def callback_failed(self, error: Exception) -> None:  # noqa: ARG002 - it is logged
        """Try again what waits, after a pause that becomes longer with each failure."""
        if self._retry_timer is None:
            seconds = max(RETRY_SECONDS, self._retry_pause.next_seconds())
            self._retry_timer = self._loop.after(seconds, self._retry)
        if self._check_timer.due is None:
            self._check_timer = self._loop.after(RECORDER_CHECK_SECONDS, self._check_recorder)

    def to_state(self) -> JournalState:
        """Return the state that is not on the disk, for the keeper's next program.

        Raises:
            NoRoomError: the last record cannot be completed now, and the next program does not know
                how to complete it.
        """
        self._writer.finish()
        return JournalState(
            journal=str(self._writer.id),
            end=self._writer.end,
            recorded=self.stored_position,
            pending=[
                PendingRecord(kind, str(UUID(bytes=command_id)), fields, position, time_us)
                for kind, command_id, fields, position, time_us in self._pending
            ],
            told_full=self._logged_full,
            consumer_acts=self._recorder_active,
        )

    def restore(self, state: JournalState) -> None:
        """Continue from the state of the previous program.

        The state does not contain the paused readers. The next program reads each pipe again, and
        pauses it again if there is still no room.
        """
        self.stored_position = state.recorded
        self._pending.extend(
            (Kind(each.kind), UUID(each.command).bytes, each.fields, each.position, each.time_us)
            for each in state.pending
        )
        self._logged_full = state.told_full
        self._recorder_active = self._stored_since_check = state.consumer_acts
        if self._pending or self._logged_full:
            self._retry_later()

    @property
    def end(self) -> int:
        """The journal position after the last written record."""
        return self._writer.end

    @property
    def has_pending(self) -> bool:
        """Whether event records wait for room on the disk."""
        return bool(self._pending)

    @property
    def full(self) -> bool:
        """Whether records or output wait for room.

        They wait if the disk is full, or if the spool limit is exceeded.
        """
        return bool(self._pending or self._waiting_for_room or self._writer.is_unfinished)

    @property
    def unstored_bytes(self) -> int:
        """How many bytes of the journal are not yet stored in the database."""
        return max(0, self._writer.end - max(self.stored_position, self._writer.first))

    def append_now(self, kind: Kind, command_id: str, fields: dict[str, Any]) -> None:
        """Append a record that must be in the journal before the next step.

        Args:
            kind: what happened.
            command_id: the command's UUID.
            fields: the payload.

        Raises:
            NoRoomError: the record was not appended; try again when `on_room` is called.
        """
        if self._pending:
            raise NoRoomError(kind.name)
        try:
            self._writer.append(kind, id_bytes(command_id), fields, 0, now_us())
        except NoRoomError as error:
            self._retry_later(str(error))
            raise

    def append(
        self, kind: Kind, command_id: str, fields: dict[str, Any], position: int = 0
    ) -> None:
        """Append a record now, or as soon as there is room; the record has the present time.

        This never fails: whoever reports an event must not lose it, and cannot repeat it.

        Args:
            kind: what happened.
            command_id: the command's UUID.
            fields: the payload.
            position: the length of the command's merged output so far, in bytes.
        """
        entry = (kind, id_bytes(command_id), fields, position, now_us())
        if not self._pending:
            try:
                self._writer.append(*entry)
            except NoRoomError as error:
                self._retry_later(str(error))
            except Exception:  # noqa: BLE001 - for example the snapshot for a new segment failed
                logger.exception("keeper_fault", detail="the record waits and is tried again")
                self._retry_later()
            else:
                if kind not in _SOON_FOLLOWED:
                    self.urgent_end = self._writer.end
                return
        self._pending.append(entry)

    def splice(self, pipe: int, length: int, command_id: bytes, stream: int, position: int) -> int:
        """Move output to the journal; see `JournalWriter.splice`.

        Raises:
            NoRoomError: nothing was taken from the pipe; call `wait_for_room`.
        """
        self._require_room_for_output()
        try:
            moved = self._writer.splice(pipe, length, command_id, stream, position)
        except NoRoomError as error:
            self._reason = str(error)
            raise
        self.urgent_end = self._writer.end
        if self._writer.is_unfinished:
            self._retry_later()
        return moved

    def append_output(self, data: bytes, command_id: bytes, stream: int, position: int) -> None:
        """Append output that the keeper has read; see `JournalWriter.append_output`.

        Raises:
            NoRoomError: nothing was written; call `wait_for_room`.
        """
        self._require_room_for_output()
        try:
            self._writer.append_output(data, command_id, stream, position)
        except NoRoomError as error:
            self._reason = str(error)
            raise
        self.urgent_end = self._writer.end

    def _require_room_for_output(self) -> None:
        if self._pending or self.unstored_bytes > self._spool_limit_bytes:
            raise NoRoomError("output")

    def wait_for_room(self, pipe: int, reader: PausedReader) -> None:
        """Resume a reader when there is room.

        Args:
            pipe: the descriptor that the reader reads; `cancel_wait` takes the same descriptor.
            reader: the reader whose `resume` is called.
        """
        self._waiting_for_room[pipe] = reader
        self._retry_later()

    def must_wait_for(self, position: int) -> bool:
        """Return whether output should wait until this journal position is stored.

        The answer is False while no recorder is active, because a script must not stand still when
        the server is down.
        """
        return self._recorder_active and self.stored_position < position

    def wait_until_stored(self, pipe: int, position: int, reader: PausedReader) -> None:
        """Resume a reader once a journal position is stored, or once no recorder is active."""
        self._waiting_until_stored[pipe] = (position, reader)

    def cancel_wait(self, pipe: int) -> None:
        """Forget the reader that waits with this descriptor, which is about to be closed."""
        self._waiting_for_room.pop(pipe, None)
        self._waiting_until_stored.pop(pipe, None)

    def stored_up_to(self, position: int) -> None:
        """Drop segments and resume readers after the server has stored more of the journal.

        Args:
            position: everything before this journal position is stored in the database.
        """
        self.stored_position = max(self.stored_position, min(position, self._writer.end))
        self._recorder_active = self._stored_since_check = True
        self._loop.call(partial(self._writer.drop, self.stored_position))
        if self._waiting_until_stored:
            ready = [
                pipe
                for pipe, (wanted, _) in self._waiting_until_stored.items()
                if wanted <= self.stored_position
            ]
            for pipe in ready:
                # When one reader resumes, its command may end. The command's end cancels the wait
                # of the command's other reader.
                if waiting := self._waiting_until_stored.pop(pipe, None):
                    self._resume(waiting[1])

    def recorder_stopped(self) -> None:
        """Resume every reader that waits for the recorder.

        The recorder is the part of the server that stores the journal in the database. Scripts must
        not stand still while there is no recorder.
        """
        self._recorder_active = False
        waiting, self._waiting_until_stored = self._waiting_until_stored, {}
        for _, reader in waiting.values():
            self._resume(reader)

    def _resume(self, reader: PausedReader) -> None:
        # The failure of one reader must not keep the other readers waiting.
        self._event_loop.call(reader, reader.resume)

    def _check_recorder(self) -> None:
        self._check_timer = self._loop.after(RECORDER_CHECK_SECONDS, self._check_recorder)
        if self._waiting_until_stored and not self._stored_since_check:
            self.recorder_stopped()
        self._stored_since_check = False

    def _retry_later(self, reason: str = "") -> None:
        if self._retry_timer is None:
            self._retry_timer = self._loop.after(RETRY_SECONDS, self._retry)
        if not self._logged_full:
            self._logged_full = True
            reason = reason or self._reason
            logger.warning("no_room", detail="scripts that print wait", reason=reason)

    def _retry(self) -> None:
        self._retry_timer = None
        try:
            self._writer.finish()
            while self._pending:
                self._writer.append(*self._pending[0])
                self._pending.popleft()
                self.urgent_end = self._writer.end
        except NoRoomError as error:
            self._retry_later(str(error))
            return
        waiting, self._waiting_for_room = self._waiting_for_room, {}
        for reader in waiting.values():
            self._resume(reader)
        self.on_room()
        if self._logged_full and not self.full:
            self._logged_full = False
            logger.info("room_again")
