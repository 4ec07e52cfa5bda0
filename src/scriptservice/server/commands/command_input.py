"""Input, signals and terminal sizes for running commands.

The keeper is the authority: it knows whether a command runs and how much input it has accepted.
This module asks the keeper first, and reads the database only to explain a refusal.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from scriptservice.errors import (
    HostUnavailableError,
    InputFullError,
    NotInteractiveError,
    NotRunningError,
    OffsetMismatchError,
)
from scriptservice.fleet.transport import InputAnswer, Transport
from scriptservice.model import Command, Status
from scriptservice.protocol.frames import MAX_INPUT_BYTES, InputResult
from scriptservice.server.commands.command_service import parse_command_id
from scriptservice.store.queries import commands as command_store
from scriptservice.store.reader import Reader

FIRST_PAUSE_SECONDS = 0.02
LAST_PAUSE_SECONDS = 1.0
"""`CommandInput.wait_for_room` asks the keeper after pauses that double from the first to this."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class AcceptedInput:
    """Input that the keeper has accepted.

    Attributes:
        accepted_bytes: size of the request's input.
        offset: number of bytes that were accepted since the command started, with these.
    """

    accepted_bytes: int
    offset: int


class CommandInput:
    """Sends input, signals and terminal sizes to running commands.

    Args:
        transport: the connection to this host's keeper.
        reader: reads from the database.
    """

    def __init__(self, transport: Transport, reader: Reader) -> None:
        self._transport = transport
        self._reader = reader

    async def send(
        self, command_id: str, data: bytes, *, offset: int | None = None, close: bool = False
    ) -> AcceptedInput:
        """Give input to an interactive command; the keeper takes all of it or nothing.

        Args:
            command_id: the command's id.
            data: at most `MAX_INPUT_BYTES`; may be empty.
            offset: the number of bytes that were accepted so far, so that a repeated request sends
                nothing twice; None to append without that check.
            close: whether the input ends after these bytes.

        Raises:
            UnknownCommandError: there is no command with this id.
            NotInteractiveError: the command takes no input.
            NotRunningError: the command is queued, is stopping, has ended, or its input was closed.
            OffsetMismatchError: the offset is another one.
            InputFullError: too much input waits; see `wait_for_room`.
            HostUnavailableError: the keeper does not answer. The input may have been accepted.
        """
        answer = await self._answer(
            self._transport.write_input(
                str(parse_command_id(command_id)), data, offset=offset, close=close
            )
        )
        if answer.result is not InputResult.ACCEPTED:
            await self._refuse(command_id, answer)
        return AcceptedInput(len(data), answer.accepted_offset)

    async def offset(self, command_id: str) -> int:
        """Return the number of bytes of input that were accepted since the command started.

        Raises:
            UnknownCommandError, NotInteractiveError, NotRunningError, HostUnavailableError: see
                `send`.
        """
        answer = await self._state(command_id)
        if answer.result not in (InputResult.ACCEPTED, InputResult.CLOSED):
            await self._refuse(command_id, answer)
        return answer.accepted_offset

    async def wait_for_room(self, command_id: str, size_bytes: int) -> None:
        """Return when the keeper has room for input of this size, after pauses that grow.

        The next `send` may still raise `InputFullError`, if another client was faster.

        Raises:
            UnknownCommandError, NotInteractiveError, NotRunningError, HostUnavailableError: see
                `send`.
        """
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            answer = await self._state(command_id)
            if answer.result is not InputResult.ACCEPTED:
                await self._refuse(command_id, answer)
            if answer.waiting_bytes + size_bytes <= MAX_INPUT_BYTES:
                return
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, LAST_PAUSE_SECONDS)

    async def signal(self, command_id: str, name: str) -> Command:
        """Send a signal to the process group of a running script.

        Args:
            command_id: the command's id.
            name: full name of the signal, such as ``SIGHUP``.

        Returns:
            The command as it is stored now.

        Raises:
            UnknownCommandError: there is no command with this id.
            NotRunningError: the command does not run; nothing was sent.
            HostUnavailableError: the keeper does not answer. The signal may have been sent.
        """
        known_id = parse_command_id(command_id)
        sent = await self._answer(self._transport.send_signal(str(known_id), name))
        command = await self._reader.run(command_store.find, known_id)
        if not sent:
            message = f"cannot send {name} to command {known_id}: {_why_not_running(command)}"
            raise NotRunningError(message)
        return command

    def resize(self, command_id: str, rows: int, cols: int) -> None:
        """Change the size of a command's terminal; no effect if it has none or does not run.

        Args:
            command_id: the command's id.
            rows: from 1 to `MAX_TERMINAL_CELLS`.
            cols: from 1 to `MAX_TERMINAL_CELLS`.

        Raises:
            UnknownCommandError: the text is not a valid id.
        """
        self._transport.resize(str(parse_command_id(command_id)), rows, cols)

    async def _state(self, command_id: str) -> InputAnswer:
        return await self._answer(self._transport.input_state(str(parse_command_id(command_id))))

    async def _answer(self, asking: Awaitable[Answer]) -> Answer:
        try:
            return await asking
        except TimeoutError as error:
            message = "cannot reach the script: the keeper does not answer; try again"
            raise HostUnavailableError(message) from error

    async def _refuse(self, command_id: str, answer: InputAnswer) -> NoReturn:
        """Raise the error for a refused request."""
        known_id = parse_command_id(command_id)
        match answer.result:
            case InputResult.OFFSET_MISMATCH:
                raise OffsetMismatchError(known_id, answer.accepted_offset)
            case InputResult.FULL:
                raise InputFullError(known_id, answer.waiting_bytes)
        command = await self._reader.run(command_store.find, known_id)
        if not command.submission.interactive:
            raise NotInteractiveError(known_id)
        why = _why_not_running(command)
        if answer.result is InputResult.CLOSED:
            why = "its input was closed, or its script has closed it"
        message = f"cannot send input to command {known_id}: {why}"
        raise NotRunningError(message)


def _why_not_running(command: Command) -> str:
    if command.status.final:
        return f"it has finished ({command.status})"
    if command.status is Status.QUEUED:
        return "it has not started"
    if command.status is Status.STOPPING:
        return "it is stopping"
    return "its script has exited"
