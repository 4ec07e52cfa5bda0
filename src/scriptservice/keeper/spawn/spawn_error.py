"""The error for a script that could not be started: the reason, and whether a retry can help."""

import errno
import os

from scriptservice.keeper.spawn.exec_failure import SpawnStep, StartOutcome
from scriptservice.protocol.frames import PRIVATE_DIRECTORY, SpawnSpec

_TEMPORARY_ERRNOS = {
    errno.EAGAIN,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOSPC,
    errno.EDQUOT,
}


class SpawnError(Exception):
    """A script could not be started; the message is the command's reason.

    Attributes:
        retry: whether a later attempt may succeed, for example when memory is free again.
    """

    def __init__(self, reason: str, *, retry: bool) -> None:
        super().__init__(reason)
        self.retry = retry


def spawn_error(error: OSError | ValueError | MemoryError, spec: SpawnSpec) -> SpawnError:
    """Return the `SpawnError` for an exception before the process was made.

    Args:
        error: the exception; `SpawnMethod.start` says what an `OSError`'s filename means.
        spec: the script that could not be started.
    """
    if isinstance(error, MemoryError):
        reason = f"cannot start the script: {os.strerror(errno.ENOMEM)}"
        return SpawnError(reason, retry=True)
    if not isinstance(error, OSError):
        return SpawnError(f"cannot start the script: {error}", retry=False)
    why = os.strerror(error.errno) if error.errno else str(error)
    if error.filename == spec.interpreter[0].encode():
        reason = f"cannot run {spec.interpreter[0]}: {why}"
    elif spec.working_directory == PRIVATE_DIRECTORY and error.filename is not None:
        reason = f"cannot enter working directory {spec.working_directory}: {why}"
    else:
        reason = f"cannot start the script: {why}"
    return SpawnError(reason, retry=error.errno in _TEMPORARY_ERRNOS)


def start_failure(
    outcome: StartOutcome, interpreter: str, working_directory: str | None
) -> SpawnError:
    """Return the `SpawnError` for a process that could not become its script.

    Args:
        outcome: the outcome of the start, a failure.
        interpreter: the script's interpreter, without its arguments.
        working_directory: the working directory as it was submitted; see `SpawnSpec`.
    """
    why = os.strerror(outcome.errno)
    step = outcome.failed_step
    in_private = step is SpawnStep.DIRECTORY and working_directory == PRIVATE_DIRECTORY
    if step is SpawnStep.EXEC:
        reason = f"cannot run {interpreter}: {why}"
    elif step is SpawnStep.ENTER or in_private:
        reason = f"cannot enter working directory {working_directory}: {why}"
    elif step is SpawnStep.DIRECTORY:
        reason = f"cannot start the script: {why}"
    else:
        # The process could not enter its cgroup or change its user. The script is not the cause, so
        # a later attempt may succeed.
        name = "" if step is None else step.name.lower().replace("_", " ")
        return SpawnError(f"cannot prepare the process: {name}: {why}", retry=True)
    return SpawnError(reason, retry=outcome.errno in _TEMPORARY_ERRNOS)
