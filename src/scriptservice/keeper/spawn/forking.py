"""Starts a process without the launcher: by vfork where it can, else by fork.

Where there was no compiler, or the launcher cannot be run. Without a change of user, cgroup or
limits Python's ``Popen`` uses vfork; with any of them it forks the whole keeper, and what must
change is changed in the child before exec.
"""

import os
import resource
import subprocess
from collections.abc import Callable

from scriptservice.keeper.spawn.new_process import SCRIPT_DESCRIPTOR, NewProcess


class ForkMethod:
    """Starts processes by ``Popen``.

    Args:
        null: /dev/null, which has the script's number between two starts.
    """

    name = "fork"

    def __init__(self, null: int) -> None:
        self._null = null

    def start(self, process: NewProcess) -> tuple[int, None]:
        """See `Way.start`."""
        os.dup2(process.script, SCRIPT_DESCRIPTOR, inheritable=True)
        try:
            started = subprocess.Popen(
                process.words,
                stdin=process.streams[0],
                stdout=process.streams[1],
                stderr=process.streams[2],
                cwd=f"/proc/self/fd/{process.directory}",
                env=process.environment,
                umask=0o077,
                start_new_session=True,
                restore_signals=True,
                close_fds=False,  # all of ours close on exec; looking for others costs
                preexec_fn=_preparation(process),  # noqa: PLW1509 - there is one thread
            )
        finally:
            os.dup2(self._null, SCRIPT_DESCRIPTOR, inheritable=False)
        # We reap by pid; an unreaped Popen would be polled, and its status stolen, by the next.
        started.returncode = 0
        return started.pid, None

    def settled(self, status: int) -> None:
        """See `Way.settled`: there is none."""


def _preparation(process: NewProcess) -> Callable[[], None] | None:
    """Return what the child must do between fork and exec, None if nothing."""
    user, cgroup, files = process.user, process.cgroup, process.files
    if cgroup is None and files is None and not user.changes:
        return None

    def prepare() -> None:
        if cgroup is not None:
            os.write(cgroup, b"0")
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, files)
        if user.changes:
            os.setgroups(user.groups)
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)

    return prepare
