"""The report of a new process that could not become its script.

The process writes two numbers to a pipe, its status pipe: the step that failed and the errno. A
successful exec closes the pipe, so an end of file without a byte means success. Only processes that
``launcher`` or ``cloning`` starts have a status pipe; ``spawner`` reads the pipe.
"""

import errno
import os
import struct
import subprocess
from enum import IntEnum

from scriptservice.keeper.spawn.new_process import NewProcess, SpawnMethod

_REPORT = struct.Struct("=ii")


class SpawnStep(IntEnum):
    """The steps of a new process up to its exec, in order; ``launcher/kernel.h`` lists them too."""

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
    USER_CHECK = 11
    PRIVILEGES = 12
    SIGNALS = 13
    DESCRIPTORS = 14
    EXEC = 15


def read_failure(status: int) -> tuple[SpawnStep, int] | None:
    """Wait until a process has failed or has done its exec.

    Args:
        status: the read end of the process's status pipe.

    Returns:
        The step that failed and the errno; None if the exec succeeded.
    """
    report = os.read(status, _REPORT.size)
    if not report:
        return None
    step, number = _REPORT.unpack(report)
    return SpawnStep(step), number


def raise_failure(step: SpawnStep, number: int, argv: list[bytes]) -> None:
    """Raise the exception for a reported failure.

    A `SpawnMethod` that waits for the exec raises the same exceptions in `start`.

    Args:
        step: the step that failed.
        number: the errno of that step.
        argv: the process's program and arguments.

    Raises:
        OSError: the exec failed, or the process could not enter the working directory.
        subprocess.SubprocessError: another step failed.
    """
    why = os.strerror(number)
    if step is SpawnStep.EXEC:
        raise OSError(number, why, argv[0])
    if step is SpawnStep.DIRECTORY:
        raise OSError(number, why, "the working directory")
    message = f"{step.name.lower().replace('_', ' ')}: {why}"
    raise subprocess.SubprocessError(message)


def find_problem(method: SpawnMethod, trial: NewProcess) -> str | None:
    """Try all steps of a method before the exec; return the problem, None if all steps work.

    Args:
        method: a method that does not wait for the exec.
        trial: a process like that of a script, but with a program that cannot be run.
    """
    try:
        pid, status = method.start(trial)
    except OSError as error:
        return f"it cannot be run: {error.strerror}"
    assert status is not None  # noqa: S101 - a method that does not wait returns a status
    try:
        failure = read_failure(status)
    finally:
        os.waitpid(pid, 0)
        os.close(status)
        method.release(status)
    if failure == (SpawnStep.EXEC, errno.EACCES):
        return None
    if failure is None:
        return "it did not report that its exec failed"
    return f"{failure[0].name.lower()}: {os.strerror(failure[1])}"
