"""Makes the standard streams of a script: pipes, or a terminal.

The spawner gives one side to the script's process, and the running command keeps the other side.
"""

import fcntl
import os
import struct
import termios
from dataclasses import dataclass

from scriptservice.keeper.spawn.script_user import ScriptUser

_WINDOW_SIZE = struct.Struct("4H")
MAX_CELLS = 65535


@dataclass(frozen=True, slots=True)
class ScriptStreams:
    """The standard streams of a script.

    Attributes:
        of_script: the descriptors that the script gets as 0, 1 and 2.
        stdout: the read end of the pipe for standard output, or the terminal's side of the keeper.
        stderr: the read end of the pipe for standard error; None if there is a terminal.
        stdin: where the keeper writes input, a non-blocking descriptor; None if the script takes no
            input. A terminal has a descriptor of its own for this, since the event loop watches
            a descriptor for one purpose.
        pipes: the inode numbers of the pipes for output; zeros if there is a terminal.
    """

    of_script: tuple[int, int, int]
    stdout: int
    stderr: int | None
    stdin: int | None
    pipes: tuple[int, int]

    @property
    def of_keeper(self) -> list[int]:
        """The descriptors that the keeper keeps."""
        return [each for each in (self.stdout, self.stderr, self.stdin) if each is not None]


def open_pipes(stdin: int | None, user: ScriptUser, opened: list[int]) -> ScriptStreams:
    """Make the pipes of a script.

    Args:
        stdin: the script's standard input; None to make a pipe for it, too.
        user: the script's user.
        opened: every descriptor that the caller must close is added to this list.
    """
    stdin_writer = None
    if stdin is None:
        opened += os.pipe2(os.O_CLOEXEC)
        stdin, stdin_writer = opened[-2:]
        os.set_blocking(stdin_writer, False)
        _give_to(user, stdin)
    opened += os.pipe2(os.O_CLOEXEC)
    stdout, stdout_writer = opened[-2:]
    _give_to(user, stdout_writer)
    opened += os.pipe2(os.O_CLOEXEC)
    stderr, stderr_writer = opened[-2:]
    _give_to(user, stderr_writer)
    return ScriptStreams(
        of_script=(stdin, stdout_writer, stderr_writer),
        stdout=stdout,
        stderr=stderr,
        stdin=stdin_writer,
        pipes=(os.fstat(stdout).st_ino, os.fstat(stderr).st_ino),
    )


def open_terminal(rows: int, cols: int, user: ScriptUser, opened: list[int]) -> ScriptStreams:
    """Make a terminal for a script, which gets it as all three streams.

    Args:
        rows: number of lines.
        cols: number of characters in a line.
        user: the script's user.
        opened: every descriptor that the caller must close is added to this list.

    Raises:
        OSError: the system has no more terminals, or the keeper no more descriptors.
    """
    opened += os.openpty()  # Python makes both ends close-on-exec
    keeper_end, script_end = opened[-2:]
    os.set_blocking(keeper_end, False)
    set_terminal_size(keeper_end, rows, cols)
    _give_to(user, script_end)
    # Otherwise members of the file's group could write to the terminal.
    os.fchmod(script_end, 0o600)
    opened.append(os.dup(keeper_end))
    return ScriptStreams(
        of_script=(script_end, script_end, script_end),
        stdout=keeper_end,
        stderr=None,
        stdin=opened[-1],
        pipes=(0, 0),
    )


def set_terminal_size(terminal: int, rows: int, cols: int) -> None:
    """Set the size of a terminal; the kernel tells its foreground processes if it has changed."""
    rows, cols = (min(max(each, 1), MAX_CELLS) for each in (rows, cols))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, _WINDOW_SIZE.pack(rows, cols, 0, 0))


def _give_to(user: ScriptUser, descriptor: int) -> None:
    """Let the script open one of its streams by name, such as /dev/stdin.

    The kernel then checks the owner and the mode of the pipe or terminal.
    """
    if user.changes:
        os.fchown(descriptor, user.uid, user.gid)
