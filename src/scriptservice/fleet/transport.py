"""The interface between the server and a host's keeper, on this machine or on another machine."""

from dataclasses import dataclass
from typing import Protocol

from scriptservice.model import Command
from scriptservice.protocol.frames import InputResult, SpawnSpec
from scriptservice.protocol.journal_format import Record


@dataclass(frozen=True, slots=True)
class RemainingProcess:
    """A process of a command that the keeper has to kill and is not permitted to signal.

    Attributes:
        pid: the process id.
        uid: the user id of the process.
        command: the command's id.
    """

    pid: int
    uid: int
    command: str


@dataclass(frozen=True, slots=True)
class HostState:
    """The state that a keeper reports.

    Attributes:
        tree_kill: how the keeper kills all processes of a script, ``cgroup`` or ``walk``.
        running: number of scripts that have started and whose end is not recorded yet.
        waiting: number of scripts that were sent to the keeper and have not started.
        full: whether output or journal records wait, because the disk is full or because too much
            of the journal is not yet stored in the database.
        unrecorded_bytes: size of the journal that is not yet stored in the database.
        strays: process ids of orphans that belong to no known command.
        spawn: how the keeper starts scripts: ``launcher`` or ``fork``. A keeper of an earlier
            release may report ``clone``, or nothing if it uses ``fork``.
        unkillable: the processes that the keeper is not permitted to signal. A keeper of an earlier
            release does not report them.
    """

    tree_kill: str
    running: int
    waiting: int
    full: bool
    unrecorded_bytes: int
    strays: tuple[int, ...]
    spawn: str = "fork"
    unkillable: tuple[RemainingProcess, ...] = ()


@dataclass(frozen=True, slots=True)
class HeldCommands:
    """The commands that a keeper holds.

    Attributes:
        commands: ids of the commands that the keeper has started and whose end is not in the
            journal.
        end: the end of the keeper's journal when this list was made, as a journal position.
    """

    commands: frozenset[str]
    end: int


@dataclass(frozen=True, slots=True)
class InputAnswer:
    """The state of a command's input after a request; a refused request has changed nothing.

    Attributes:
        result: what became of the request.
        accepted_offset: number of bytes of input that the keeper has accepted since the command
            started. The text that was submitted as ``stdin`` does not count.
        waiting_bytes: number of accepted bytes that the keeper has not passed to the script yet.
    """

    result: InputResult
    accepted_offset: int = 0
    waiting_bytes: int = 0


class Transport(Protocol):
    """The connection to one host's keeper.

    Attributes:
        host: name of the host.
        identity: identity of the keeper; a new keeper has another identity.
        journal: id of the keeper's journal.
        capacity: number of scripts that the keeper can run at the same time.
        end: the end of the keeper's journal as this process knows it, as a journal position.
    """

    host: str
    identity: str
    journal: str
    capacity: int
    end: int

    def spawn(self, spec: SpawnSpec) -> None:
        """Ask the keeper to run a script; the journal records what happens to the script."""

    async def drain(self) -> None:
        """Wait until most of the sent frames have left this process's buffer."""

    def finish_adoption(self) -> None:
        """Tell the keeper that this server has sent all commands that it had to send again."""

    def stop(self, command_id: str, signal: str, grace_seconds: float) -> None:
        """Ask the keeper to stop a command; no effect if the keeper does not have the command."""

    def expire(self, command_id: str) -> None:
        """Tell the keeper that a command's queue time-out has passed.

        The keeper ends the command if it has not started.
        """

    async def write_input(
        self, command_id: str, data: bytes, *, offset: int | None, close: bool
    ) -> InputAnswer:
        """Give input to an interactive command; the keeper takes all of it or nothing.

        If the answer is `InputResult.FULL`, try again after a pause: ask `input_state` until there
        is room, with pauses that grow. The keeper does not report room by itself.

        Args:
            command_id: the command's UUID.
            data: the bytes; may be empty, for example to close only.
            offset: the number of bytes that the caller believes were accepted so far; None to
                append to whatever was accepted.
            close: whether the input ends after these bytes. On a terminal, the keeper then sends
                Ctrl-D.

        Raises:
            TimeoutError: the keeper does not answer, so it is unknown whether the bytes were
                accepted. A retry with the same offset sends nothing twice.
        """

    async def input_state(self, command_id: str) -> InputAnswer:
        """Return the state of a command's input, without a change.

        The result is `ACCEPTED` if the command takes input now, else the reason why not.

        Raises:
            TimeoutError: the keeper does not answer.
        """

    async def send_signal(self, command_id: str, signal: str) -> bool:
        """Send a signal to the process group of a running script.

        Args:
            command_id: the command's UUID.
            signal: full name of the signal, such as ``SIGHUP``.

        Returns:
            Whether the command runs. If it does not, nothing was sent.

        Raises:
            TimeoutError: the keeper does not answer.
        """

    def resize(self, command_id: str, rows: int, cols: int) -> None:
        """Change the size of a command's terminal; no effect if it has none or does not run.

        Of several sizes that come shortly after each other, the keeper may apply only the last one.
        """

    def acknowledge(self, position: int) -> None:
        """Tell the keeper that the journal is stored up to a position."""

    def read(self, position: int, max_bytes: int) -> tuple[list[Record], int]:
        """Return the journal's records from a position on.

        The call blocks while it reads, so make large reads on a thread.

        Args:
            position: position of the first record.
            max_bytes: approximate size of the records to read.

        Returns:
            The records, and the position after the last record.

        Raises:
            JournalGapError: the journal begins after ``position``.
            JournalDamagedError: the bytes at the position are not what the keeper wrote.
        """

    async def wait_for_growth(self, position: int) -> None:
        """Return when the journal reaches beyond a position."""

    async def state(self) -> HostState:
        """Ask the keeper for its state.

        Raises:
            TimeoutError: the keeper does not answer.
        """

    async def held_commands(self) -> HeldCommands:
        """Ask the keeper which commands it holds; see `HeldCommands`.

        Raises:
            TimeoutError: the keeper does not answer.
        """


def spawn_spec(command: Command) -> SpawnSpec:
    """Return the part of a command that the keeper needs."""
    submission = command.submission
    trace = {} if command.traceparent is None else {"TRACEPARENT": command.traceparent}
    return SpawnSpec(
        id=str(command.id),
        script=submission.script,
        interpreter=list(submission.interpreter),
        args=list(submission.args),
        env={**trace, **submission.env},
        stdin=submission.stdin,
        interactive=submission.interactive,
        pty=None if submission.pty is None else [submission.pty.rows, submission.pty.cols],
        working_directory=submission.working_directory,
        timeout_seconds=submission.timeout_seconds,
        grace_seconds=submission.grace_seconds,
        leftover_seconds=submission.leftover_seconds,
        output_limit_bytes=submission.output_limit_bytes,
        on_output_limit=submission.on_output_limit.value,
    )
