"""What kept a new process from becoming its script, as the process itself reports it.

It says so in a pipe that its exec closes: the end without a byte is success. ``launcher`` and
``cloning`` start such processes, ``spawn`` asks what became of them.
"""

import errno
import os
import struct
import subprocess
from enum import IntEnum

from scriptservice.keeper.spawn.new_process import NewProcess, SpawnMethod

_REPORT = struct.Struct("=ii")


class SpawnStep(IntEnum):
    """What failed, by the numbers of ``launcher/kernel.h``; in the order in which it is done."""

    ARGUMENTS = 1
    SESSION = 2
    TERMINAL = 3
    CGROUP = 4
    DIRECTORY = 5
    LIMIT = 6
    GROUPS = 7
    GROUP = 8
    USER = 9
    CAPABILITIES = 10
    WAY_BACK = 11
    PRIVILEGES = 12
    SIGNALS = 13
    DESCRIPTORS = 14
    EXEC = 15


def read_failure(status: int) -> tuple[SpawnStep, int] | None:
    """Return what a process failed at and the errno, None if it became the program.

    Waits until either is certain.

    Args:
        status: the read end of the pipe that it was given.
    """
    report = os.read(status, _REPORT.size)
    if not report:
        return None
    stage, number = _REPORT.unpack(report)
    return SpawnStep(stage), number


def raise_failure(stage: SpawnStep, number: int, words: list[bytes]) -> None:
    """Raise what `SpawnMethod.start` would have raised, had it waited."""
    why = os.strerror(number)
    if stage is SpawnStep.EXEC:
        raise OSError(number, why, words[0])
    if stage is SpawnStep.DIRECTORY:
        raise OSError(number, why, "the working directory")
    message = f"{stage.name.lower().replace('_', ' ')}: {why}"
    raise subprocess.SubprocessError(message)


def find_problem(way: SpawnMethod, trial: NewProcess) -> str | None:
    """Let a way do everything but the exec; return what is wrong with it, None if nothing.

    Args:
        way: one that does not wait for the exec.
        trial: what scripts get; its program has to be one that cannot be run.
    """
    try:
        pid, status = way.start(trial)
    except OSError as error:
        return f"it cannot be run: {error.strerror}"
    assert status is not None  # noqa: S101 - that is what not to wait means
    try:
        report = read_failure(status)
    finally:
        os.waitpid(pid, 0)
        os.close(status)
        way.settled(status)
    if report == (SpawnStep.EXEC, errno.EACCES):
        return None
    if report is None:
        return "it did not say how its exec went"
    return f"{report[0].name.lower()}: {os.strerror(report[1])}"
