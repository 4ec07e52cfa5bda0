"""The error for a script that could not be started: the reason, and whether a retry can help."""

import errno
import os

from scriptservice.protocol.frames import SpawnSpec

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


def spawn_error(error: Exception, spec: SpawnSpec) -> SpawnError:
    """Return the `SpawnError` for an exception of a spawn method or of its preparation.

    Args:
        error: the exception; `SpawnMethod.start` says what an `OSError`'s filename means.
        spec: the script that could not be started.
    """
    if isinstance(error, ValueError):
        return SpawnError(f"cannot start the script: {error}", retry=False)
    if not isinstance(error, OSError):
        # The process could not enter its cgroup or change its user. The script is not the cause, so
        # a later attempt may succeed.
        return SpawnError(f"cannot prepare the process: {error}", retry=True)
    why = os.strerror(error.errno) if error.errno else str(error)
    if error.filename == spec.interpreter[0].encode():
        reason = f"cannot run {spec.interpreter[0]}: {why}"
    elif spec.working_directory is not None and error.filename is not None:
        reason = f"cannot enter working directory {spec.working_directory}: {why}"
    else:
        reason = f"cannot start the script: {why}"
    return SpawnError(reason, retry=error.errno in _TEMPORARY_ERRNOS)
