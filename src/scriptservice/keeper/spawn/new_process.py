"""The specification of a script's process, and the interface of the methods to start a process.

``spawner`` makes a `NewProcess`. The methods are ``launcher`` and ``forking``.
"""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from scriptservice.keeper.spawn.script_user import ScriptUser

SCRIPT_DESCRIPTOR = 63
"""The interpreter reads the script from this descriptor, so a script's ``$0`` is /dev/fd/63."""
NO_PROCESS = -1
"""The value of `SpawnResources.pid` while there is no process."""


@dataclass(frozen=True, slots=True)
class NewProcess:
    """The specification of a process that is about to be started.

    Attributes:
        argv: program and arguments; a program without a slash is looked up in ``PATH``.
        environment: the complete environment.
        directory: an ``O_PATH`` descriptor of the directory that the process enters before its user
            changes.
        script: the descriptor of the script's text; the process gets it as `SCRIPT_DESCRIPTOR`.
        streams: the descriptors that the process gets as 0, 1 and 2.
        status: the write end of the process's status pipe (see ``exec_failure``).
        user: the user of the process.
        cgroup: a descriptor of the ``cgroup.procs`` file of the cgroup that the process enters,
            None for the keeper's own cgroup.
        descriptor_limits: soft and hard limit of descriptors, None for the keeper's own limits.
        enter: the path of the directory that the process enters from ``directory`` after its user
            has changed, None to stay there.
        terminal: whether the first of the streams is a terminal that becomes the controlling
            terminal of the process's session.
    """

    argv: list[bytes]
    environment: dict[bytes, bytes]
    directory: int
    script: int
    streams: tuple[int, int, int]
    status: int
    user: ScriptUser
    cgroup: int | None = None
    descriptor_limits: tuple[int, int] | None = None
    enter: bytes | None = None
    terminal: bool = False


@dataclass(slots=True)
class SpawnResources:
    """What a start has made so far, so that an exception at any line can undo all of it.

    The line that makes something also stores it here. So no exception can come between the two.

    Attributes:
        opened: the descriptors that the start has opened, without the pidfd.
        pid: the id of the process, `NO_PROCESS` while there is none.
        pidfd: a pidfd of the process, -1 while there is none.
        private_directory: the path of the script's private directory, None if it has none.
        signals_before: the keeper's blocked signals, if the start has blocked further ones.
    """

    opened: list[int] = field(default_factory=list)
    pid: int = NO_PROCESS
    pidfd: int = -1
    private_directory: str | None = None
    signals_before: set[int | signal.Signals] | None = None

    def close_except(self, *kept: int) -> None:
        """Close what the start has opened, except for these descriptors."""
        for descriptor in [each for each in self.opened if each not in kept]:
            os.close(self.opened.pop(self.opened.index(descriptor)))

    def undo(self) -> None:
        """Kill the process, close all descriptors, and remove the private directory.

        This method does not wait for the end of the process. The keeper's reaper reaps the process,
        as it reaps every child.
        """
        if self.signals_before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self.signals_before)
        try:
            if self.pid != NO_PROCESS:
                self._kill()
        finally:
            self.close_except()
        if self.private_directory is not None:
            # A process that has written a file there before it was killed leaves the directory. The
            # keeper removes it at its next start.
            with suppress(OSError):
                os.rmdir(self.private_directory)

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if self.pidfd < 0:
                # Nobody has reaped this child, so no other process can have its id.
                os.kill(self.pid, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        if self.pidfd >= 0:
            os.close(self.pidfd)


class SpawnMethod(Protocol):
    """A method to start a process.

    Attributes:
        name: the method's name as ``/readyz`` shows it: ``launcher`` or ``fork``.
    """

    name: str

    def start(self, process: NewProcess, made: SpawnResources) -> None:
        """Start a process, without waiting for the exec of its program.

        Args:
            process: the specification of the process. Its status pipe tells whether it becomes its
                program.
            made: gets the process id.

        Raises:
            OSError: the arguments are too long (the exception's filename is the program), or there
                is no room for a process (the exception has no filename).
            ValueError: an argument or a variable contains a zero byte.
        """
