"""What can be done with commands, between the routes on one side and store and fleet on the other.

Routes decode and respond; here it is acted. Nothing here knows HTTP.
"""

import asyncio
import os
import time
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
from scriptservice.fleet.notifications import Step
from scriptservice.fleet.recorder import Recorder
from scriptservice.fleet.transport import HostState, Transport
from scriptservice.ids import new_id, parse_id
from scriptservice.model import Command, Filter, Origin, RequestKey, Submission
from scriptservice.protocol.clock import now_us
from scriptservice.server.commands.notifier import FollowerKind, Notifier
from scriptservice.server.commands.output_removal import OutputRemover
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import hosts as host_store
from scriptservice.store.queries import requests
from scriptservice.store.queries.idempotency import find_request
from scriptservice.store.queries.listing import listing
from scriptservice.store.queries.listing.time_slice import TimeSlice
from scriptservice.store.reader import Reader
from scriptservice.store.writer import Writer

FIRST_LOOK_SECONDS = 0.05
"""Who waits for an end is told of it, unless it came before he began to listen.

What has ended by now is hardly ever that: a look at once would be one in vain, at the very moment
when the script is being started.
"""

HAND_OVER_SECONDS = 10.0
_ROOM_CHECK_SECONDS = 0.5

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """What a submit led to.

    Attributes:
        command: as it is now.
        repeated: whether an earlier request had made it.
    """

    command: Command
    repeated: bool


def _result_of(stored: "asyncio.Future[Result]") -> Result | None:
    """Return what a job of the writer led to, None if it failed."""
    return None if stored.cancelled() or stored.exception() is not None else stored.result()


def _scanned_page(
    connection: Connection, time_slice: TimeSlice, wanted: Filter, limit: int, before: int | None
) -> listing.Page:
    return listing.page(connection, wanted, limit, before, time_slice)


class CommandService:
    """The service's verbs.

    Args:
        reader: for reading.
        writer: for writing.
        dispatcher: for submitting.
        recorder: for what it says of the store.
        transport: for stopping, and for the state of the host.
        feed: news of commands.
        remover: removes the output of deleted commands.
        data_dir: whose disk must have room.
        min_free_bytes: how much.
        on_ended: told of each command that ends without having been sent anywhere.
        on_deleted: told of each command that is deleted.
    """

    def __init__(
        self,
        *,
        reader: Reader,
        writer: Writer,
        dispatcher: Dispatcher,
        recorder: Recorder,
        transport: Transport,
        feed: Notifier,
        remover: OutputRemover,
        data_dir: str,
        min_free_bytes: int,
        on_ended: Callable[[Step], None],
        on_deleted: Callable[[UUID], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._transport = transport
        self._feed = feed
        self._remover = remover
        self._data_dir = data_dir
        self._min_free_bytes = min_free_bytes
        self._on_ended = on_ended
        self._on_deleted = on_deleted
        self._room_checked = 0.0
        self._has_room = True

    async def submit(
        self,
        submission: Submission,
        origin: Origin,
        *,
        rerun_of: UUID | None = None,
    ) -> SubmitResult:
        """Store a command and let it start; it is durable when this returns.

        Args:
            submission: what is asked for.
            origin: where it comes from; the same request again makes nothing new.
            rerun_of: what it repeats.

        Raises:
            GoneError: the same request made a command that has been deleted.
            IdempotencyMismatchError: another request had this name.
            ValidationError: it asks for a host that there is not.
            StorageFullError: the disk has less room than is kept free.
            StoreUnavailableError: the database does not answer; see `Dispatcher.submit`.
        """
        if submission.host not in (None, self._transport.host):
            message = f"there is no host {submission.host}"
            raise ValidationError(FieldError("host", message))
        if not self._room():
            if made := await self._made_before(origin.request):
                return made
            message = "cannot take commands: the disk has less room than is kept free"
            raise StorageFullError(message)
        stored = await self._dispatcher.submit(new_id(), submission, origin, rerun_of)
        if isinstance(stored, Command):
            return SubmitResult(stored, repeated=False)
        return await self._repeated(stored.command)

    async def _made_before(self, request: RequestKey | None) -> SubmitResult | None:
        """Return what the same request made earlier, None if it made nothing.

        For what could not be made now: a request that was answered once is answered again.
        """
        if request is None:
            return None
        kept = await self._reader.run(find_request, request, now_us())
        if kept is None:
            return None
        if kept.fingerprint != request.fingerprint:
            raise IdempotencyMismatchError(request.key)
        return await self._repeated(kept.command)

    async def _repeated(self, command: UUID) -> SubmitResult:
        try:
            return SubmitResult(await self._reader.run(command_store.find, command), repeated=True)
        except UnknownCommandError as error:
            raise GoneError(command) from error

    def _room(self) -> bool:
        now = time.monotonic()
        if now - self._room_checked > _ROOM_CHECK_SECONDS:
            self._room_checked = now
            disk = os.statvfs(self._data_dir)
            self._has_room = disk.f_bavail * disk.f_frsize >= self._min_free_bytes
        return self._has_room

    async def get(self, command: str) -> Command:
        """Return a command.

        Raises:
            UnknownCommandError: there is none of that id.
        """
        return await self._reader.run(command_store.find, command_id(command))

    async def finished(self, command: Command, seconds: float) -> Command:
        """Return a command once it is finished, or as it is when the time is over.

        Args:
            command: as it was seen last.
            seconds: how long to wait; a shutdown ends it at once.
        """
        try:
            return await self._wait_for_end(command, seconds)
        except (UnknownCommandError, StoreError):
            # It is stored, which is what the answer says; only how it is now cannot be told.
            return command

    async def _wait_for_end(self, command: Command, seconds: float) -> Command:
        if command.status.final:
            return command
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        look_at = clock() + FIRST_LOOK_SECONDS
        with self._feed.subscription(command.id, FollowerKind.WAIT) as news:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(min(look_at, deadline)):
                        await news.wait()
                # Before reading: what is committed after this wakes us again.
                news.clear()
                look_at = deadline
                if news.end is not None and command.host is not None:
                    # Nothing else of it has changed since: what is stored need not be read.
                    return replace(command, status=news.end.status, outcome=news.end.outcome)
                seen = await self._reader.run(command_store.find, command.id)
                if seen.status.final or self._feed.draining or clock() >= deadline:
                    return seen

    async def page(self, wanted: Filter, limit: int, before: int | None) -> listing.Page:
        """Return commands, newest first; see `store.listing.page`.

        A page that may have to go through everything is read as a scan: it ends after a bounded
        time, perhaps without an item, and the next page goes on from there.
        """
        if listing.is_cheap(wanted):
            return await self._reader.run(listing.page, wanted, limit, before)
        return await self._reader.scan(_scanned_page, wanted, limit, before)

    async def stop(self, command: str, signal: str, grace_seconds: float | None) -> Command:
        """Ask for a command to be stopped; the wish is durable when this returns.

        Returns:
            The command as it is now.

        Raises:
            UnknownCommandError: there is none of that id.
            AlreadyFinishedError: it has ended.
        """
        request = requests.StopRequest(command_id(command), signal, grace_seconds, now_us())
        stored = self._writer.submit(requests.request_stop, request)
        # Not after the await: whoever asked may have given up by the time it is stored.
        stored.add_done_callback(lambda _: self._stop_stored(stored, request))
        result = await self._writer.patiently(stored)
        if isinstance(result, Exception):
            raise result
        return result

    def _stop_stored(
        self, stored: "asyncio.Future[requests.StopResult]", request: requests.StopRequest
    ) -> None:
        result = _result_of(stored)
        if not isinstance(result, Command):
            return
        if result.status.final:
            self._on_ended(Step(result.id, result.status, result.outcome))
            return
        grace = request.grace_seconds
        if grace is None:
            grace = result.submission.grace_seconds
        self._dispatcher.stop(result.id, request.signal, grace)

    async def rerun(self, command: str, origin: Origin) -> SubmitResult:
        """Submit the same again; see `submit`.

        Raises:
            UnknownCommandError: there is none of that id.
            StoreError: nothing is stored.
        """
        try:
            again = await self.get(command)
        except UnknownCommandError:
            if made := await self._made_before(origin.request):
                return made
            raise
        return await self.submit(again.submission, origin, rerun_of=again.id)

    async def delete(self, command: str) -> None:
        """Delete a finished command and its output.

        Raises:
            UnknownCommandError: there is none of that id.
            NotFinishedError: it has not ended.
        """
        deletion = requests.Deletion(command_id(command), now_us())
        stored = self._writer.submit(requests.mark_deleted, deletion)
        stored.add_done_callback(lambda _: self._deletion_stored(stored, deletion))
        result = await self._writer.patiently(stored)
        if isinstance(result, Exception):
            raise result

    def _deletion_stored(
        self, stored: "asyncio.Future[requests.DeletionResult]", deletion: requests.Deletion
    ) -> None:
        result = _result_of(stored)
        if isinstance(result, int):
            self._on_deleted(deletion.id)
            self._remover.remove(result)

    # Hosts and health

    async def hosts(self) -> list[host_store.Host]:
        """Return all hosts."""
        return await self._reader.run(host_store.all_hosts)

    async def handed_over(self) -> None:
        """Wait until little of what was submitted waits to be sent to the keeper."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HAND_OVER_SECONDS):
                await self._transport.drained()

    async def host_state(self) -> HostState:
        """Return how this machine's keeper is.

        Raises:
            TimeoutError: it does not answer.
        """
        return await self._transport.state()

    @property
    def takes_no_writes(self) -> bool:
        """Whether the database took nothing when it was tried last."""
        return self._writer.unavailable is not None

    @property
    def recording_waits(self) -> str | None:
        """Why what happens is not stored now, None while it is."""
        return self._recorder.waiting_for_store

    @property
    def running(self) -> int:
        """How many commands are with the keeper."""
        return self._dispatcher.running


def command_id(text: str) -> UUID:
    """Return the id that a path names.

    Raises:
        UnknownCommandError: there can be no such command.
    """
    command = parse_id(text)
    if command is None:
        raise UnknownCommandError(text[:80])
    return command
