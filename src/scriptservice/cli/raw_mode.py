"""Puts the user's terminal into raw mode, and back on every way out.

In raw mode each key reaches this program at once, and the terminal neither shows it nor acts on it:
Ctrl-C is a byte like any other. A program that ended in raw mode would leave the user with a shell
that shows nothing. So signals that would end this program first become exceptions.
"""

import os
import signal
import sys
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

_ENDING_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)

_RESET_SCREEN = (
    b"\x1b[?1049l"  # the normal screen, if the script has switched to the other one
    b"\x1b[?25h"  # show the cursor
    b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l"  # report no mouse
    b"\x1b[?2004l"  # mark no pasted text
    b"\x1b[?1l\x1b>"  # cursor keys and digits as usual
    b"\x1b[0m"  # no colours
)


class EndedBySignalError(Exception):
    """A signal has told this program to end.

    Attributes:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def window_size() -> tuple[int, int] | None:
    """Return the rows and columns of the user's terminal; None if it has no size."""
    with suppress(OSError, ValueError):
        size = os.get_terminal_size(sys.stdin.fileno())
        if size.lines > 0 and size.columns > 0:
            return size.lines, size.columns
    return None


class RawMode:
    """A context manager that keeps the terminal of stdin in raw mode.

    Args:
        on_resized: called in the main thread when the window has another size, or when this
            program continues after it was suspended.

    Raises:
        EndedBySignalError: raised in the block when a signal tells this program to end.
    """

    def __init__(self, on_resized: Callable[[], None]) -> None:
        self._on_resized = on_resized
        self._descriptor = sys.stdin.fileno()
        self._handlers: dict[signal.Signals, Any] = {}
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._descriptor)
        handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {
            **dict.fromkeys(_ENDING_SIGNALS, _end),
            signal.SIGWINCH: lambda *_: self._on_resized(),
            signal.SIGCONT: self._continued,
        }
        try:
            for number, handler in handlers.items():
                self._handlers[number] = signal.signal(number, handler)
            # By default, `setraw` discards what the user has already typed.
            tty.setraw(self._descriptor, termios.TCSADRAIN)
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _continued(self, *_: object) -> None:
        # The shell may have changed the terminal's mode while this program was suspended.
        with suppress(termios.error):
            tty.setraw(self._descriptor, termios.TCSADRAIN)
        self._on_resized()

    def _restore(self) -> None:
        if self._before is not None:
            with suppress(termios.error, OSError):  # the terminal may be gone
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> None:
    raise EndedBySignalError(number)


def reset_screen() -> None:
    """Undo what a full-screen program has changed on the terminal of stdout."""
    with suppress(OSError, ValueError):
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), _RESET_SCREEN)
