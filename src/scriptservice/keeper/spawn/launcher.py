"""Starts a process through the launcher, a small static program that execs the interpreter.

The keeper uses the launcher if scripts run as another user, or if ``cloning`` does not work. The
launcher's source is ``launcher/launcher.c``. The keeper starts the launcher with ``posix_spawn``.
Until the exec of the launcher, the new process shares the keeper's memory, so the cost does not
depend on the size of the keeper's memory. The launcher then makes all changes in its own memory,
and execs the interpreter. Under load this second exec takes longer than all other steps, so the
keeper does not wait for it. If the exec fails, the launcher reports the failure through a pipe. A
successful exec closes the pipe. See docs/adr/0015-launcher.md.
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
    """Starts processes through the launcher.

    Args:
        program: a descriptor of the launcher's file. A path would not be enough: an upgrade
            replaces the file, and the old keeper still needs the launcher of its own release.
    """

    name = "launcher"

    def __init__(self, program: int) -> None:
        self._program = program
        self._path = f"/proc/self/fd/{program}"

    @classmethod
    def probe(cls, trial: NewProcess, program: str = _PROGRAM) -> "LauncherMethod | None":
        """Return this method if the launcher is installed and works, else None.

        Args:
            trial: a process like that of a script, but with a program that cannot be run.
            program: the path of the launcher.
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
        """See `SpawnMethod.start`. This method returns before the exec of the script's program."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            pid = self._spawn(process, writer)
        except OSError as error:
            os.close(reader)
            if error.errno == errno.E2BIG:
                raise OSError(error.errno, error.strerror, process.argv[0]) from error
            # Raise an exception without a filename. The filename of `error` is the launcher's path,
            # and the caller would conclude that this path is the script's program.
            raise OSError(error.errno, error.strerror) from error
        except ValueError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return pid, reader

    def release(self, status: int) -> None:
        """See `SpawnMethod.release`; the launcher has its own memory, so nothing is freed."""

    def _spawn(self, process: NewProcess, writer: int) -> int:
        stdin, stdout, stderr = process.streams
        # A dup2 of a descriptor onto its own number keeps the descriptor open across the launcher's
        # exec. No such descriptor has the number 0, 1, 2 or SCRIPT_DESCRIPTOR, because the keeper
        # uses these numbers for other files.
        actions = [
            (_DUP2, stdin, 0),
            (_DUP2, stdout, 1),
            (_DUP2, stderr, 2),
            (_DUP2, process.script, SCRIPT_DESCRIPTOR),
            (_DUP2, writer, writer),
            (_DUP2, process.directory, process.directory),
        ]
        argv = [b"launcher", b"--status=%d" % writer, b"--directory=%d" % process.directory]
        if process.cgroup is not None:
            actions.append((_DUP2, process.cgroup, process.cgroup))
            argv.append(b"--cgroup=%d" % process.cgroup)
        if process.descriptor_limits is not None:
            argv.append(
                b"--limit=%d:%d:%d"
                % (resource.RLIMIT_NOFILE, *map(_unsigned, process.descriptor_limits))
            )
        if process.user.changes:
            user = process.user
            groups = ",".join(map(str, user.groups))
            argv.append(f"--user={user.uid}:{user.gid}:{groups}".encode())
        if b"/" not in process.argv[0]:
            argv.append(b"--path=" + process.environment.get(b"PATH", os.defpath.encode()))
        return os.posix_spawn(
            self._path,
            [*argv, b"--", *process.argv],
            process.environment,
            file_actions=actions,
        )


def _unsigned(limit: int) -> int:
    """Return a limit as an unsigned number; Python represents RLIM_INFINITY by -1."""
    return limit % (1 << 64)
