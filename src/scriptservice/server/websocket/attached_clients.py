"""Clients that are attached to an interactive command: output to them, and input from them.

Output is sent by position, from the same cache of stored output as to every follower. So all
attached clients see the same bytes, and a client whose connection broke continues at its position.
No output is kept in memory for a slow client.

Input goes to `CommandInput` message by message. While the script does not read, the next message is
not taken from the connection, so that the client has to wait. Clients do not wait for each other's
output, but they share the room for input.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from scriptservice.errors import (
    AlreadyFinishedError,
    FieldError,
    InputFullError,
    NotInteractiveError,
    ScriptServiceError,
    StoreError,
    UnknownCommandError,
    ValidationError,
)
from scriptservice.model import Status, Stream
from scriptservice.server.commands.command_input import CommandInput
from scriptservice.server.commands.command_service import parse_command_id
from scriptservice.server.commands.notifier import FollowerKind, Notifier
from scriptservice.server.http.command_json import command_view, to_json
from scriptservice.server.http.problem_responses import ProblemError, problem_members, to_problem
from scriptservice.server.http.streaming import StreamCutError
from scriptservice.server.http.websocket_handshake import CloseCode, MessageConnection
from scriptservice.server.output.block_cache import READ_BYTES, BlockCache
from scriptservice.server.websocket.control_messages import control_of
from scriptservice.store.queries import commands as command_store
from scriptservice.store.reader import Reader
from scriptservice.store.until_stored import until_stored

CHECK_SECONDS = 2.0
"""Time between two checks whether the client's token and session are still valid."""

RESIZE_SECONDS = 0.2
"""Shortest time between two changes of the terminal's size by one client. Of the sizes that come
meanwhile, only the last is used. The keeper joins sizes too, within a shorter time. So two sizes
that are this far apart both reach the script.
"""


@dataclass(frozen=True, slots=True)
class AttachedClients:
    """Lets clients attach to commands.

    Attributes:
        reader: reads from the database.
        notifier: wakes followers.
        cache: reads output for followers.
        command_input: takes input, signals and sizes.
    """

    reader: Reader
    notifier: Notifier
    cache: BlockCache
    command_input: CommandInput

    async def attach(
        self, command_id: str, after: int | None, instance: str, is_allowed: Callable[[], bool]
    ) -> "AttachedClient":
        """Return a client that is attached to a command that has not finished.

        Args:
            command_id: the command's id.
            after: position in the merged output at which to begin; None for the present end.
            instance: the path of the request, for problems.
            is_allowed: returns whether the client may still use the command.

        Raises:
            UnknownCommandError: there is no command with this id.
            AlreadyFinishedError: the command has finished.
            NotInteractiveError: the command takes no input.
            ValidationError: the position lies beyond the command's output.
        """
        identifier = parse_command_id(command_id)
        command = await self.reader.run(command_store.find_without_script, identifier)
        if command.status.final:
            raise AlreadyFinishedError(command, "attach to")
        if not command.submission.interactive:
            raise NotInteractiveError(identifier)
        position = command.output_bytes if after is None else after
        if position > command.output_bytes:
            raise ValidationError(FieldError("after", "is beyond the end of the output"))
        return AttachedClient(
            self,
            identifier,
            status=command.status,
            position=position,
            instance=instance,
            is_allowed=is_allowed,
        )


class AttachedClient:
    """One client that is attached to a command.

    Args:
        parts: what all attached clients use.
        command_id: the command.
        status: the status that the command has now.
        position: position in the merged output of the first byte to send.
        instance: the path of the request, for problems.
        is_allowed: returns whether the client may still use the command.
    """

    def __init__(
        self,
        parts: AttachedClients,
        command_id: UUID,
        *,
        status: Status,
        position: int,
        instance: str,
        is_allowed: Callable[[], bool],
    ) -> None:
        self._reader = parts.reader
        self._notifier = parts.notifier
        self._cache = parts.cache
        self._input = parts.command_input
        self._command_id = command_id
        self._status = status
        self._position = position
        self._instance = instance
        self._is_allowed = is_allowed
        self._has_started = status is not Status.QUEUED
        self._size: tuple[int, int] | None = None
        self._resizing: asyncio.TimerHandle | None = None

    async def serve(self, connection: MessageConnection) -> None:
        """Serve the client until the command or the server ends, or the client leaves."""
        start = {
            "position": self._position,
            "stdin_offset": await self._input_offset(),
            "status": self._status.value,
        }
        with suppress(ConnectionError):
            await connection.send(_text({"start": start}))
        tasks = [
            asyncio.create_task(self._send_output(connection)),
            asyncio.create_task(self._take_input(connection)),
        ]
        try:
            await self._wait_for_end(tasks, connection)
        finally:
            for task in tasks:
                task.cancel()
            if self._resizing is not None:
                self._resizing.cancel()
                self._apply_size()
        for task in tasks:
            with suppress(asyncio.CancelledError, ConnectionError):
                await task

    async def _wait_for_end(
        self, tasks: "list[asyncio.Task[None]]", connection: MessageConnection
    ) -> None:
        """Wait until a task has ended, or the client is no longer allowed to use the command."""
        while True:
            done, _ = await asyncio.wait(
                tasks, timeout=CHECK_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return
            if not self._is_allowed():
                message = "the token or the session is no longer valid"
                connection.close(CloseCode.NOT_ALLOWED, message)
                return

    async def _input_offset(self) -> int | None:
        """Return how much input was accepted so far; None if the keeper does not tell."""
        if not self._has_started:
            return 0
        try:
            return await self._input.offset(str(self._command_id))
        except ScriptServiceError:
            return None  # the script has exited, or the keeper does not answer

    # Output

    async def _send_output(self, connection: MessageConnection) -> None:
        with self._notifier.subscribe(self._command_id, FollowerKind.ATTACH) as subscription:
            while True:
                # Clear the event before the read, so that a commit during the read sets it again.
                subscription.clear()
                # Read this flag before the output. If the flag is set, the read below finds
                # everything that was committed before the server began to end.
                closing = self._notifier.closing
                try:
                    ended = await self._send_next(connection)
                except (UnknownCommandError, StoreError, StreamCutError):
                    break  # deleted, or the server ends; the client's next request is told which
                if ended:
                    connection.close(CloseCode.NORMAL)
                    return
                if ended is None:
                    continue
                if closing:
                    break
                await subscription.wait()
        connection.close(CloseCode.RESTART, "the server ends; attach again")

    async def _send_next(self, connection: MessageConnection) -> bool | None:
        """Send the output that comes next, or the end of the command.

        Returns:
            True after the end; False if no output is stored at the position; None after output.
        """
        read = partial(
            self._cache.read,
            self._command_id,
            Stream.MERGED,
            self._position,
            self._position + READ_BYTES,
        )
        output = await self._until_stored(read)
        if output.data:
            self._position += len(output.data)
            await connection.send(output.data)
        if output.finished:
            find = partial(self._reader.run, command_store.find_without_script, self._command_id)
            view = command_view(await self._until_stored(find))
            view.pop("script")
            await connection.send(_text({"end": view}))
            return True
        return None if output.data else False

    async def _until_stored(self, work: Callable[[], Awaitable[Any]]) -> Any:
        return await until_stored(work, None, unless=lambda: self._notifier.closing)

    # Input

    async def _take_input(self, connection: MessageConnection) -> None:
        """Take messages until the client leaves."""
        while (message := await connection.receive()) is not None:
            try:
                await self._take_unless_lost(message, connection)
            except (ProblemError, ScriptServiceError) as error:
                await connection.send(_text({"error": self._problem(error)}))

    async def _take_unless_lost(self, message: str | bytes, connection: MessageConnection) -> None:
        """Take a message. If the client leaves, give it up after a while.

        A script that reads still gets what its client sent before it left. But for a script that
        does not read, nobody may wait for ever.
        """
        taking = asyncio.create_task(self._take(message))
        lost = asyncio.create_task(connection.lost.wait())
        try:
            await asyncio.wait({taking, lost}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({taking}, timeout=CHECK_SECONDS)
            if taking.done():
                taking.result()
        finally:
            taking.cancel()
            lost.cancel()

    async def _take(self, message: str | bytes) -> None:
        await self._wait_for_start()
        if isinstance(message, bytes):
            await self._write(message)
            return
        match control_of(message):
            case str() as signal:
                await self._input.signal(str(self._command_id), signal)
            case rows, cols:
                self._resize(rows, cols)

    async def _write(self, data: bytes) -> None:
        """Give input to the script. While it does not read, wait until there is room."""
        command_id = str(self._command_id)
        while True:
            try:
                await self._input.send(command_id, data)
            except InputFullError:
                await self._input.wait_for_room(command_id, len(data))
            else:
                return

    async def _wait_for_start(self) -> None:
        """Wait until the command is no longer queued."""
        if self._has_started:
            return
        with self._notifier.subscribe(self._command_id, FollowerKind.ATTACH) as subscription:
            while True:
                subscription.clear()
                extent = await self._until_stored(
                    partial(self._reader.run, command_store.find_extent, self._command_id)
                )
                if extent.status is not Status.QUEUED:
                    break
                await subscription.wait()
        self._has_started = True

    def _resize(self, rows: int, cols: int) -> None:
        self._size = rows, cols
        if self._resizing is None:
            self._apply_size()

    def _apply_size(self) -> None:
        """Apply the last size, and wait before the next one."""
        self._resizing = None
        if self._size is None:
            return
        rows, cols = self._size
        self._size = None
        self._input.resize(str(self._command_id), rows, cols)
        self._resizing = asyncio.get_running_loop().call_later(RESIZE_SECONDS, self._apply_size)

    def _problem(self, error: Exception) -> dict[str, Any]:
        problem = to_problem(error)
        return problem_members(problem.kind, problem.detail, self._instance, **problem.members)


def _text(message: dict[str, Any]) -> str:
    return to_json(message).decode()
