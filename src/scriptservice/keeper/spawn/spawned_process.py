"""A script's process that was started: its ids, its pidfd and its pipes."""

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
        pid: its process id, which is also its session's and its group's.
        pidfd: its pidfd.
        start_ticks: clock ticks from boot to its start.
        stdout: the read end of the pipe of its standard output.
        stderr: the read end of the pipe of its standard error.
        pipes: the inode numbers of both pipes.
        private_directory: the directory to be removed at its end, None if it has none.
        status: a descriptor that becomes readable once the process has become the script or has
            failed, for `Spawner.confirm`; None if the process is the script.
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
    """Return the clock ticks from boot to now, the unit of start times in /proc."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _TICK_NANOSECONDS


def identify(
    pid: int,
    start_ticks: int | None,
    readers: tuple[int, int],
    private: str | None,
    status: int | None,
) -> SpawnedProcess:
    """Open the pidfd of a process that was just started and return the process.

    Raises:
        SpawnError: the pidfd or the start time cannot be had; the process was killed.
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
