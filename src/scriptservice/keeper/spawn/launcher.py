"""Starts a process through the launcher, a small static program that execs the interpreter.

The launcher's source is ``launcher/launcher.c``. The keeper starts the launcher with
``posix_spawn``. Until the launcher's own exec, the new process shares the keeper's memory, so the
cost does not depend on the size of that memory. The launcher then makes all changes in its own
memory, and execs the interpreter. This second exec takes longer under load than all other steps,
and may never return if a file system does not answer. So the keeper does not wait for it: the
launcher reports a failure through a pipe, which a successful exec closes. See
docs/adr/0015-launcher.md and docs/adr/0023-one-way-to-start.md.
"""

import errno
import os
import resource

from scriptservice.keeper.spawn.exec_failure import find_problem
from scriptservice.keeper.spawn.new_process import SCRIPT_DESCRIPTOR, NewProcess, SpawnResources
from scriptservice.keeper.system.keeper_log import logger

_PROGRAM = os.path.join(os.path.dirname(__file__), "launcher")
_DUP2 = os.POSIX_SPAWN_DUP2


class LauncherMethod:
    """Starts processes through the launcher.

    Args:
        program: a descriptor of the launcher's file. A path would not do: an upgrade replaces the
            file, and the old keeper still needs the launcher of its own release.
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

    def start(self, process: NewProcess, made: SpawnResources) -> None:
        """See `SpawnMethod.start`."""
        argv = [*_options(process), b"--", *process.argv]
        actions = _file_actions(process)
        try:
            made.pid = os.posix_spawn(self._path, argv, process.environment, file_actions=actions)
        except OSError as error:
            # The exception's filename is the launcher's, which the caller would take for another.
            filename = process.argv[0] if error.errno == errno.E2BIG else None
            raise OSError(error.errno, error.strerror, filename) from error


def _options(process: NewProcess) -> list[bytes]:
    options = [
        b"launcher",
        b"--status=%d" % process.status,
        b"--directory=%d" % process.directory,
    ]
    if process.cgroup is not None:
        options.append(b"--cgroup=%d" % process.cgroup)
    if process.descriptor_limits is not None:
        soft, hard = map(_unsigned, process.descriptor_limits)
        options.append(b"--limit=%d:%d:%d" % (resource.RLIMIT_NOFILE, soft, hard))
    if process.user.changes:
        user = process.user
        groups = ",".join(map(str, user.groups))
        options.append(f"--user={user.uid}:{user.gid}:{groups}".encode())
    if process.terminal:
        options.append(b"--terminal")
    if process.enter is not None:
        options.append(b"--enter=" + process.enter)
    if b"/" not in process.argv[0]:
        options.append(b"--path=" + process.environment.get(b"PATH", os.defpath.encode()))
    return options


def _file_actions(process: NewProcess) -> list[tuple[int, int, int]]:
    """Return the descriptors that the launcher gets, as pairs of the keeper's and its own number.

    A dup2 of a descriptor onto its own number keeps it open across the launcher's exec. No such
    descriptor has the number 0, 1, 2 or `SCRIPT_DESCRIPTOR`: the keeper has other files there.
    """
    actions = [(_DUP2, given, number) for number, given in enumerate(process.streams)]
    actions.append((_DUP2, process.script, SCRIPT_DESCRIPTOR))
    own = (process.status, process.directory, process.cgroup)
    actions += [(_DUP2, each, each) for each in own if each is not None]
    return actions


def _unsigned(limit: int) -> int:
    """Return a limit as an unsigned number; Python represents RLIM_INFINITY by -1."""
    return limit % (1 << 64)
