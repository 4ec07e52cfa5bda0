"""Runs the command line as a program, with pipes or on a terminal."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import Any, Self

from support.service import PATIENCE_SECONDS, Service


def cli(service: Service, *words: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "scriptservice.cli", *words],
        check=False,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        **{"env": environment(service), "stdin": subprocess.DEVNULL, **more},
    )


def environment(service: Service, **more: str) -> dict[str, str]:
    known = {"SCRIPTSERVICE_URL": service.url, "SCRIPTSERVICE_TOKEN": service.token}
    return {**os.environ, **known, **more}


class Terminal:
    """The command line on a pty: stdin, stdout and stderr are one terminal, as for a person.

    Args:
        service: the service that it talks to.
        words: its arguments.
        columns: width of the terminal.
        more: more environment variables.

    Attributes:
        seen: everything that it has printed so far.
    """

    def __init__(self, service: Service, *words: str, columns: int = 120, **more: str) -> None:
        known = {"TERM": "xterm", "COLUMNS": str(columns), **more}
        command = [sys.executable, "-m", "scriptservice.cli", *words]
        self._start(command, environment(service, **known), columns)

    @classmethod
    def of(cls, command: list[str], environment: dict[str, str]) -> Self:
        """Run any program on a terminal."""
        terminal = cls.__new__(cls)
        terminal._start(command, environment, 120)
        return terminal

    def _start(self, command: list[str], environment: dict[str, str], columns: int) -> None:
        self.seen = b""
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, environment)
        self.resize(40, columns)

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the terminal; the program gets SIGWINCH."""
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self._descriptor, keys)

    def read_until(
        self, condition: Callable[[bytes], Any], seconds: float = PATIENCE_SECONDS
    ) -> bytes:
        """Read until a condition on the output holds or the program ends; return the output."""
        deadline = time.monotonic() + seconds
        while not condition(self.seen):
            assert time.monotonic() < deadline, self.seen
            if select.select([self._descriptor], [], [], 0.1)[0]:
                try:
                    data = os.read(self._descriptor, 65536)
                except OSError:  # the program has ended
                    break
                if not data:
                    break
                self.seen += data
        return self.seen

    def end(self, seconds: float = PATIENCE_SECONDS) -> tuple[int, bytes]:
        """Wait for its end; return the exit code and the whole output."""
        self.read_until(lambda _: False, seconds)
        os.close(self._descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), self.seen
