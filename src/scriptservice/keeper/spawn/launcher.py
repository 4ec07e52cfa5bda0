"""Starts a process by the launcher: a small static program that becomes the script's interpreter.

Its source is ``launcher/launcher.c``. For scripts of another user; for those of the keeper's own,
where ``cloning`` does not work. The keeper starts it by ``posix_spawn``, which shares the
keeper's memory until the launcher's exec and so costs the same however large the keeper is; the
launcher then changes in its own memory what must change, and execs. Whether that worked stands in
a pipe that the exec closes: the keeper need not wait for it, which under load takes longer than
everything else. ``spawn`` calls this; why so: docs/adr/0015-launcher.md.
"""

import errno
import os
import resource

from scriptservice.keeper.spawn.exec_failure import find_problem
from scriptservice.keeper.spawn.new_process import SCRIPT_DESCRIPTOR, NewProcess
from scriptservice.keeper.system.keeper_log import logger

_PROGRAM = os.path.join(os.path.dirname(__file__), "launcher")
_DUP2 = os.POSIX_SPAWN_DUP2


class LauncherMethod:
    """Starts processes by the launcher.

    Args:
        program: descriptor of it. By descriptor, since an upgrade replaces the file while the
            keeper of before still needs the one that it knows.
    """

    name = "launcher"

    def __init__(self, program: int) -> None:
        self._program = program
        self._path = f"/proc/self/fd/{program}"

    @classmethod
    def found(cls, trial: NewProcess, program: str = _PROGRAM) -> "LauncherMethod | None":
        """Return the launcher of this installation if it is there and does its work, else None.

        Args:
            trial: what scripts get; its program has to be one that cannot be run.
            program: path of the launcher.
        """
        try:
            launcher = cls(os.open(program, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            logger.info("no_launcher", detail="it was not built; scripts are started by fork")
            return None
        except OSError as error:
            logger.warning("launcher_unusable", detail=f"{error}; scripts are started by fork")
            return None
        problem = find_problem(launcher, trial)
        if problem is None:
            return launcher
        logger.warning("launcher_unusable", detail=f"{problem}; scripts are started by fork")
        os.close(launcher._program)
        return None

    def start(self, process: NewProcess) -> tuple[int, int]:
        """See `Way.start`; returns before the exec, so only the launcher's own can fail."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            pid = self._spawn(process, writer)
        except OSError as error:
            os.close(reader)
            if error.errno == errno.E2BIG:
                raise OSError(error.errno, error.strerror, process.words[0]) from error
            # Its filename is the launcher's, which is nothing of the script's.
            raise OSError(error.errno, error.strerror) from error
        except ValueError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return pid, reader

    def settled(self, status: int) -> None:
        """See `Way.settled`: the launcher has its own memory."""

    def _spawn(self, process: NewProcess, writer: int) -> int:
        stdin, stdout, stderr = process.streams
        # Onto itself means: stays open across this one exec. No number of ours is one of those
        # that scripts get, which the keeper's own files hold.
        actions = [
            (_DUP2, stdin, 0),
            (_DUP2, stdout, 1),
            (_DUP2, stderr, 2),
            (_DUP2, process.script, SCRIPT_DESCRIPTOR),
            (_DUP2, writer, writer),
            (_DUP2, process.directory, process.directory),
        ]
        words = [b"launcher", b"--status=%d" % writer, b"--directory=%d" % process.directory]
        if process.cgroup is not None:
            actions.append((_DUP2, process.cgroup, process.cgroup))
            words.append(b"--cgroup=%d" % process.cgroup)
        if process.files is not None:
            words.append(b"--limit=%d:%d:%d" % (resource.RLIMIT_NOFILE, *map(_word, process.files)))
        if process.user.changes:
            user = process.user
            groups = ",".join(map(str, user.groups))
            words.append(f"--user={user.uid}:{user.gid}:{groups}".encode())
        if b"/" not in process.words[0]:
            words.append(b"--path=" + process.environment.get(b"PATH", os.defpath.encode()))
        return os.posix_spawn(
            self._path,
            [*words, b"--", *process.words],
            process.environment,
            file_actions=actions,
        )


def _word(limit: int) -> int:
    """Return a limit as the kernel counts, where Python says -1 for none."""
    return limit % (1 << 64)
