"""A started process of a script: its ids, its pidfd and its pipes."""

import os
import time
from dataclasses import dataclass

_TICK_NANOSECONDS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class SpawnedProcess:
    """A process that was started.

    Attributes:
        pid: the process id, which is also the id of the process's session and process group.
        pidfd: a pidfd of the process.
        start_ticks: the time from boot to the process's start, in clock ticks.
        stdout: the read end of the pipe for standard output, or the terminal.
        stderr: the read end of the pipe for standard error; None if the script has a terminal.
        pipes: the inode numbers of both pipes; zeros if the script has a terminal.
        stdin: where the keeper writes input, None if the script takes none.
        private_directory: the path of the directory to remove after the script has ended, None if
            the script has no private directory.
        status: a descriptor that becomes readable once the process has become the script or has
            failed; `read_outcome` reads it.
    """

    pid: int
    pidfd: int
    start_ticks: int
    stdout: int
    stderr: int | None
    pipes: tuple[int, int]
    stdin: int | None
    private_directory: str | None
    status: int


def boot_ticks() -> int:
    """Return the time from boot to now in clock ticks, as /proc gives start times."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _TICK_NANOSECONDS
