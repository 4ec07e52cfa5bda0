"""A started process of a script: its ids, its pidfd and its pipes."""

import os
import signal
import time
from dataclasses import dataclass

from scriptservice.keeper.spawn.spawn_error import SpawnError
from scriptservice.keeper.system.linux import process_stat

_TICK_NANOSECONDS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class SpawnedProcess:
    """A process that was started.

    Attributes:
        pid: the process id, which is also the id of the process's session and process group.
        pidfd: a pidfd of the process.
        start_ticks: the time from boot to the process's start, in clock ticks.
        stdout: the read end of the pipe for standard output.
        stderr: the read end of the pipe for standard error.
        pipes: the inode numbers of both pipes.
        private_directory: the path of the directory to remove after the script has ended, None if
            the script has no private directory.
        status: a descriptor that becomes readable once the process has become the script or has
            failed; `Spawner.confirm` reads it. None if the process is already the script.
    """

    pid: int
    pidfd: int
    start_ticks: int
    stdout: int
    stderr: int
    pipes: tuple[int, int]
    private_directory: str | None
    status: int | None


def boot_ticks() -> int:
    """Return the time from boot to now in clock ticks, as /proc gives start times."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _TICK_NANOSECONDS


def identify(
    pid: int,
    start_ticks: int | None,
    readers: tuple[int, int],
    private: str | None,
    status: int | None,
) -> SpawnedProcess:
    """Open the pidfd of a process that was just started, and return its `SpawnedProcess`.

    Args:
        pid: the process id.
        start_ticks: the time from boot to the process's start, in clock ticks; None to read it from
            /proc.
        readers: the read ends of the pipes for standard output and standard error.
        private: the path of the private directory, None if the script has none.
        status: the descriptor that `SpawnMethod.start` returned.

    Raises:
        SpawnError: the pidfd could not be opened or the start time could not be read. The process
            was killed.
    """
    pidfd = -1
    try:
        pidfd = os.pidfd_open(pid)
        if start_ticks is None:
            stat = process_stat(pid)
            start_ticks = stat.start_ticks if stat else 0
    except OSError as error:
        if pidfd >= 0:
            os.close(pidfd)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise SpawnError(
            f"cannot open the pidfd of the process: {error.strerror}", retry=False
        ) from error
    stdout, stderr = readers
    return SpawnedProcess(
        pid=pid,
        pidfd=pidfd,
        start_ticks=start_ticks,
        stdout=stdout,
        stderr=stderr,
        pipes=(os.fstat(stdout).st_ino, os.fstat(stderr).st_ino),
        private_directory=private,
        status=status,
    )
