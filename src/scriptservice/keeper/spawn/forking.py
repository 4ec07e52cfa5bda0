"""Starts a process without the launcher: by vfork where that is possible, else by fork.

The keeper uses this method if the launcher does not work, or if no compiler was there to build it.
Python's ``Popen`` uses vfork if the user, the cgroup and the limits stay the same. Otherwise
``Popen`` forks the whole keeper, and the child makes the changes before its exec.
"""

import os
import resource
import subprocess
from collections.abc import Callable

from scriptservice.keeper.spawn.new_process import SCRIPT_DESCRIPTOR, NewProcess


class ForkMethod:
    """Starts processes with ``Popen``.

    Args:
        null: a descriptor of /dev/null. Between two starts, `SCRIPT_DESCRIPTOR` is a copy of this
            descriptor, so that no file of the keeper gets that number.
    """

    name = "fork"

    def __init__(self, null: int) -> None:
        self._null = null

    def start(self, process: NewProcess) -> tuple[int, None]:
        """See `SpawnMethod.start`."""
        os.dup2(process.script, SCRIPT_DESCRIPTOR, inheritable=True)
        try:
            started = subprocess.Popen(
                process.argv,
                stdin=process.streams[0],
                stdout=process.streams[1],
                stderr=process.streams[2],
                cwd=f"/proc/self/fd/{process.directory}",
                env=process.environment,
                umask=0o077,
                start_new_session=True,
                restore_signals=True,
                # All descriptors of the keeper close on exec. A search for other open descriptors
                # would cost time.
                close_fds=False,
                preexec_fn=_preparation(process),  # noqa: PLW1509 - there is one thread
            )
        finally:
            os.dup2(self._null, SCRIPT_DESCRIPTOR, inheritable=False)
        # The keeper itself reaps this process, by its pid. Without a return code, the next Popen
        # would poll this process, reap it, and so take its wait status from the keeper.
        started.returncode = 0
        return started.pid, None

    def release(self, status: int) -> None:
        """See `SpawnMethod.release`; there is nothing to free."""


def _preparation(process: NewProcess) -> Callable[[], None] | None:
    """Return the function that the child must call between fork and exec, None for no function."""
    user, cgroup, limits = process.user, process.cgroup, process.descriptor_limits
    if cgroup is None and limits is None and not user.changes:
        return None

    def prepare() -> None:
        if cgroup is not None:
            os.write(cgroup, b"0")
        if limits is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        if user.changes:
            os.setgroups(user.groups)
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)

    return prepare
