"""Operations on commands: submit, read, wait, list, stop, rerun, delete.

The routes decode a request, call this module, and respond. This module knows nothing of HTTP.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Connection

from scriptservice.errors import (
    FieldError,
    GoneError,
    IdempotencyMismatchError,
    StorageFullError,
    StoreError,
    UnknownCommandError,
    ValidationError,
)
from scriptservice.fleet.dispatcher import Dispatcher
from scriptservice.fleet.notifications import StatusChange
from scriptservice.fleet.recorder import Recorder
from scriptservice.fleet.transport import HostState, Transport
from scriptservice.ids import new_id, parse_id
from scriptservice.model import Command, Filter, IdempotencyKey, Origin, Submission
from scriptservice.protocol.clock import now_us
from scriptservice.server.commands.disk_space import DiskSpace
from scriptservice.server.commands.limit_support import LimitSupport
from scriptservice.server.commands.maxima import Maxima
from scriptservice.server.commands.notifier import FollowerKind, Notifier
from scriptservice.server.commands.output_removal import OutputRemover
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import deletions, dispatching, stop_requests
from scriptservice.store.queries import hosts as host_store
from scriptservice.store.queries.idempotency import find_request
from scriptservice.store.queries.listing import listing
from scriptservice.store.queries.listing.time_slice import TimeSlice
from scriptservice.store.reader import Reader
from scriptservice.store.writer import Writer

FIRST_READ_SECONDS = 0.05
"""Time after which a request that waits for a command's end first reads the command.

The command may have ended before the request subscribed to changes. Only this read finds such an
end. That is rare, so the read can come a little later. A read without this delay would take place
while the script is being started, and would nearly always be useless.
"""

SEND_SECONDS = 10.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """The result of a submission.

    Attributes:
        command: the command as it is now.
        repeated: whether an earlier request with the same Idempotency-Key created the command.
    """

    command: Command
    repeated: bool


def _result_of(stored: "asyncio.Future[Result]") -> Result | None:
    """Return the result of a writer's job, None if the job failed."""
    return None if stored.cancelled() or stored.exception() is not None else stored.result()


def _scanned_page(
    connection: Connection, time_slice: TimeSlice, wanted: Filter, limit: int, before: int | None
) -> listing.CommandListing:
    return listing.list_commands(connection, wanted, limit, before, time_slice)


class CommandService:
    """The operations on commands.

    Args:
        reader: reads from the database.
        writer: writes to the database.
        dispatcher: stores new commands and sends them to the keeper.
        recorder: knows whether the journal is being stored.
        transport: the connection to this host's keeper.
        notifier: wakes requests that wait for a command's end.
        remover: removes the output of deleted commands.
        disk_space: decides whether the disk has room for new commands.
        maxima: what no command may exceed.
        on_ended: called for each command that ends without having been sent to a keeper.
        on_deleted: called with the id and the internal number of each command that is deleted.
    """

    def __init__(
        self,
        *,
        reader: Reader,
        writer: Writer,
        dispatcher: Dispatcher,
        recorder: Recorder,
        transport: Transport,
        notifier: Notifier,
        remover: OutputRemover,
        disk_space: DiskSpace,
        maxima: Maxima,
        on_ended: Callable[[StatusChange], None],
        on_deleted: Callable[[UUID, int], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._transport = transport
        self._notifier = notifier
        self._remover = remover
        self._disk_space = disk_space
        self._maxima = maxima
        self._interactive_lock = asyncio.Lock()
        self._limit_support = LimitSupport(transport.state)
        self._on_ended = on_ended
        self._on_deleted = on_deleted

    async def submit(
        self,
        submission: Submission,
        origin: Origin,
        *,
        rerun_of: UUID | None = None,
    ) -> SubmitResult:
        """Store a command and let it start. When this method returns, the command is durable.

        Args:
            submission: the command's fields.
            origin: where the submission comes from. If the origin has an Idempotency-Key, a
                repetition of the request creates no second command.
            rerun_of: id of the command that the new command repeats; None if this is not a rerun.

        Raises:
            GoneError: the same request created a command that has been deleted.
            IdempotencyMismatchError: a different request used this Idempotency-Key.
            BusyError: the concurrency key is busy, and the command must not wait.
            ValidationError: there is no host with the requested name, a field exceeds its maximum,
                or the keeper cannot set one of the limits.
            StorageFullError: the disk has less free space than must be kept free.
            StoreUnavailableError: the database does not answer; see `Dispatcher.submit`.
        """
        if submission.host not in (None, self._transport.host):
            message = f"there is no host {submission.host}"
            raise ValidationError(FieldError("host", message))
        try:
            submission = self._maxima.apply(submission)
            await self._limit_support.check(submission.limits)
        except ValidationError:
            # The request may have been valid before, with other settings.
            if earlier := await self._find_earlier(origin.request):
                return earlier
            raise
        if shortage := self._disk_space.shortage():
            if earlier := await self._find_earlier(origin.request):
                return earlier
            message = f"cannot take new commands: {shortage}; delete commands or free disk space"
            raise StorageFullError(message)
        if self._maxima.interactive is None or not submission.interactive:
            return await self._store(submission, origin, rerun_of)
        # One at a time, so that no other submission is stored between the count and this one.
        async with self._interactive_lock:
            if earlier := await self._find_earlier(origin.request):
                return earlier
            count = dispatching.count_interactive
            self._maxima.check_interactive(await self._reader.run(count, self._maxima.interactive))
            return await self._store(submission, origin, rerun_of)

    async def _store(
        self, submission: Submission, origin: Origin, rerun_of: UUID | None
    ) -> SubmitResult:
        stored = await self._dispatcher.submit(new_id(), submission, origin, rerun_of)
        if isinstance(stored, Command):
            return SubmitResult(stored, repeated=False)
        return await self._repeated(stored.command_id)

    async def _find_earlier(self, request: IdempotencyKey | None) -> SubmitResult | None:
        """Return the command that the same request created earlier, None if it created no command.

        The callers use this method if they cannot create a new command. So a repeated request still
        gets its answer.
        """
        if request is None:
            return None
        kept = await self._reader.run(find_request, request, now_us())
        if kept is None:
            return None
        if kept.fingerprint != request.fingerprint:
            raise IdempotencyMismatchError(request.key)
        return await self._repeated(kept.command_id)

    async def _repeated(self, command_id: UUID) -> SubmitResult:
        try:
            command = await self._reader.run(command_store.find, command_id)
        except UnknownCommandError as error:
            raise GoneError(command_id) from error
        return SubmitResult(command, repeated=True)

    async def get(self, command_id: str) -> Command:
        """Return a command.

        Raises:
            UnknownCommandError: there is no command with this id.
        """
        return await self._reader.run(command_store.find, parse_command_id(command_id))

    async def wait_until_finished(self, command: Command, seconds: float) -> Command:
        """Wait until a command has ended or the time is over; return the command as it is then.

        Args:
            command: the command as it was read last.
            seconds: how long to wait at most. A shutdown ends the wait at once.
        """
        try:
            return await self._wait_for_end(command, seconds)
        except (UnknownCommandError, StoreError):
            # The command is stored, and the answer has to confirm that. The present status cannot
            # be read, so the answer shows the last known status.
            return command

    async def _wait_for_end(self, command: Command, seconds: float) -> Command:
        if command.status.final:
            return command
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        read_at = clock() + FIRST_READ_SECONDS
        with self._notifier.subscribe(command.id, FollowerKind.WAIT) as subscription:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(min(read_at, deadline)):
                        await subscription.wait()
                # Clear the event before the read, so that a commit during the read sets it again.
                subscription.clear()
                read_at = deadline
                if (end := subscription.end) is not None and command.host is not None:
                    # Nothing else has changed in the command, so it need not be read again.
                    return replace(
                        command, status=end.status, waiting_for=None, outcome=end.outcome
                    )
                current = await self._reader.run(command_store.find, command.id)
                if current.status.final or self._notifier.draining or clock() >= deadline:
                    return current

    async def page(self, wanted: Filter, limit: int, before: int | None) -> listing.CommandListing:
        """Return a page of commands, newest first; see `listing.list_commands`.

        If the search for these commands may have to examine every command, the page is read by a
        scan. A scan ends after a bounded time, even if it has found no command. The next page
        continues where the scan ended.
        """
        if listing.is_cheap(wanted):
            return await self._reader.run(listing.list_commands, wanted, limit, before)
        return await self._reader.scan(_scanned_page, wanted, limit, before)

    async def stop(self, command_id: str, signal: str, grace_seconds: float | None) -> Command:
        """Store a request to stop a command. When this method returns, the request is durable.

        Args:
            command_id: the command's id.
            signal: name of the signal that the command's process group gets.
            grace_seconds: time between the signal and SIGKILL; None for the command's own
                ``grace_seconds``.

        Returns:
            The command as it is now.

        Raises:
            UnknownCommandError: there is no command with this id.
            AlreadyFinishedError: the command has ended.
            ValidationError: the grace period exceeds its maximum.
        """
        self._maxima.check_grace(grace_seconds)
        request = stop_requests.StopRequest(
            parse_command_id(command_id), signal, grace_seconds, now_us()
        )
        stored = self._writer.submit(stop_requests.request_stop, request)
        # Use a callback: it runs even if this coroutine is cancelled before the request is stored.
        stored.add_done_callback(lambda _: self._stop_stored(stored, request))
        result = await self._writer.wait_with_timeout(stored)
        if isinstance(result, Exception):
            raise result
        return result

    def _stop_stored(
        self, stored: "asyncio.Future[stop_requests.StopResult]", request: stop_requests.StopRequest
    ) -> None:
        result = _result_of(stored)
        if not isinstance(result, Command):
            return
        if result.status.final:
            self._on_ended(StatusChange(result.id, result.status, result.outcome))
            self._dispatcher.waiting_ended()
            return
        grace = request.grace_seconds
        if grace is None:
            grace = result.submission.grace_seconds
        self._dispatcher.stop(result.id, request.signal, grace)

    async def rerun(self, command_id: str, origin: Origin) -> SubmitResult:
        """Submit a command again; see `submit`.

        Raises:
            UnknownCommandError: there is no command with this id.
            StoreError: the command cannot be read, or the new command cannot be stored; see
                `submit`.
        """
        try:
            command = await self.get(command_id)
        except UnknownCommandError:
            if earlier := await self._find_earlier(origin.request):
                return earlier
            raise
        return await self.submit(command.submission, origin, rerun_of=command.id)

    async def delete(self, command_id: str) -> None:
        """Delete a finished command and its output.

        Raises:
            UnknownCommandError: there is no command with this id.
            NotFinishedError: the command has not ended.
        """
        deletion = deletions.Deletion(parse_command_id(command_id), now_us())
        stored = self._writer.submit(deletions.mark_deleted, deletion)
        stored.add_done_callback(lambda _: self._deletion_stored(stored, deletion))
        result = await self._writer.wait_with_timeout(stored)
        if isinstance(result, Exception):
            raise result

    def _deletion_stored(
        self, stored: "asyncio.Future[deletions.DeletionResult]", deletion: deletions.Deletion
    ) -> None:
        result = _result_of(stored)
        if isinstance(result, int):
            self._on_deleted(deletion.id, result)
            self._remover.remove(result)

    # Hosts and health

    async def hosts(self) -> list[host_store.StoredHost]:
        """Return all hosts."""
        return await self._reader.run(host_store.all_hosts)

    async def wait_until_sent(self) -> None:
        """Wait until nearly all data for the keeper has been sent, but at most `SEND_SECONDS`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SEND_SECONDS):
                await self._transport.drain()

    async def host_state(self) -> HostState:
        """Return the state of this machine's keeper.

        Raises:
            TimeoutError: the keeper does not answer.
        """
        return await self._transport.state()

    @property
    def takes_no_writes(self) -> bool:
        """Whether the database refused the last attempt to write."""
        return self._writer.unavailable_reason is not None

    @property
    def disk_shortage(self) -> str | None:
        """Why new commands are refused for lack of disk space, None while there is room."""
        return self._disk_space.shortage()

    @property
    def recording_waits(self) -> str | None:
        """The reason why the journal is not being stored now, None while it is being stored."""
        return self._recorder.waiting_for_store

    @property
    def running(self) -> int:
        """The number of commands that were sent to the keeper and have not ended."""
        return self._dispatcher.running


def parse_command_id(text: str) -> UUID:
    """Return the id of a command from the text in a request's path.

    Raises:
        UnknownCommandError: the text is not a valid id, so there is no command with this id.
    """
    command_id = parse_id(text)
    if command_id is None:
        raise UnknownCommandError(text[:80])
    return command_id
