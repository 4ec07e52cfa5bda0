"""Tells whether a new process has become its script, or which step before that has failed.

A new process has a status pipe. If a step fails, the process writes two numbers to the pipe: the
step and the errno. A successful exec closes the pipe, so an end of file without a byte means
success. The pipe also closes if the process is killed before its exec. Such a process counts as
started, since the keeper cannot know whether the exec has happened. The keeper never waits for the
pipe: it reads when the event loop reports that the pipe is readable.
"""

import errno
import os
import select
import struct
from dataclasses import dataclass, replace
from enum import IntEnum

from scriptservice.keeper.spawn.new_process import (
    NO_PROCESS,
    NewProcess,
    SpawnMethod,
    SpawnResources,
)

REPORT = struct.Struct("=ii")
"""A report: the step that failed, and the errno."""


class SpawnStep(IntEnum):
    """The steps of a new process up to its exec, in order; ``launcher/kernel.h`` lists them too.

    After an upgrade, the keeper's next program may read the report of a process that this program
    has started. So each number must keep its meaning in later releases. The step LIMIT
    includes the nice value, which is set after the step USER_CHECK.
    """

    ARGUMENTS = 1
    SESSION = 2
    TERMINAL = 3
    CGROUP = 4
    DIRECTORY = 5
    DESCRIPTORS = 6
    LIMIT = 7
    GROUPS = 8
    GROUP = 9
    USER = 10
    CAPABILITIES = 11
    USER_CHECK = 12
    PRIVILEGES = 13
    SIGNALS = 14
    ENTER = 15
    EXEC = 16


@dataclass(frozen=True, slots=True)
class StartOutcome:
    """Whether a new process has become its script, or the step that failed.

    Attributes:
        failed_step: the step that failed, None if the process is its script now.
        errno: the errno of the step that failed, else 0.
    """

    failed_step: SpawnStep | None
    errno: int = 0


STARTED = StartOutcome(None)


def read_outcome(status: int) -> StartOutcome | None:
    """Return whether a process has become its script or has failed; this does not wait.

    A report can be read only once. After this function has returned an outcome, do not call it
    again for the same pipe.

    Args:
        status: the read end of the process's status pipe, which must be non-blocking.

    Returns:
        The outcome, None if the process has neither failed nor done its exec yet.
    """
    try:
        report = os.read(status, REPORT.size)
    except BlockingIOError:
        return None
    if not report:
        return STARTED
    step, number = REPORT.unpack(report)
    return StartOutcome(SpawnStep(step), number)


def open_status_pipe(made: SpawnResources) -> tuple[int, int]:
    """Make a status pipe; return its read end, which is non-blocking, and its write end.

    Args:
        made: gets both ends.
    """
    made.opened += os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    status, writer = made.opened[-2:]
    return status, writer


def find_problem(method: SpawnMethod, trial: NewProcess) -> str | None:
    """Start a trial process; return what does not work, None if all steps before the exec work.

    The exec itself must fail with EACCES. This function waits for the process, so it is called only
    at the keeper's start.

    Args:
        method: the method.
        trial: a process like that of a script, but with a program that cannot be run.
    """
    made = SpawnResources()
    try:
        status, writer = open_status_pipe(made)
        method.start(replace(trial, status=writer), made)
        made.close_except(status)
        poll = select.poll()
        poll.register(status, select.POLLIN)
        poll.poll()
        outcome = read_outcome(status)
        os.waitpid(made.pid, 0)
        made.pid = NO_PROCESS
    except OSError as error:
        return f"it cannot be run: {error.strerror}"
    finally:
        made.undo()
    if outcome == StartOutcome(SpawnStep.EXEC, errno.EACCES):
        return None
    if outcome is None or outcome.failed_step is None:
        return "it did not report that its exec failed"
    return f"{outcome.failed_step.name.lower()}: {os.strerror(outcome.errno)}"
