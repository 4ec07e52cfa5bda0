"""Starts a process without the launcher, by a fork of the keeper.

The keeper uses this method if the launcher does not work, or was not built for want of a compiler.
The forked process takes the same steps as the launcher, in the same order, and reports a failure in
the same way. So the keeper does not wait for the exec. A fork copies the keeper's page tables,
which makes this method slower.

The forked process has a copy of the keeper's memory. Until its exec it must neither log nor import
anything, and it must never return to the keeper's code.
"""

import errno
import fcntl
import os
import resource
import signal
import termios
from collections.abc import Callable
from typing import NoReturn

from scriptservice.keeper.spawn.exec_failure import REPORT, SpawnStep
from scriptservice.keeper.spawn.new_process import SCRIPT_DESCRIPTOR, NewProcess, SpawnResources
from scriptservice.keeper.spawn.script_user import ScriptUser
from scriptservice.keeper.system.linux import drop_capabilities
from scriptservice.protocol.prctl import hide_from_ptrace, signal_when_parent_dies

_FAILED = 127
_ALL_SIGNALS = signal.valid_signals()
_HANDLED_SIGNALS = sorted(_ALL_SIGNALS - {signal.SIGKILL, signal.SIGSTOP})

_Step = tuple[SpawnStep, Callable[[], object]]


class ForkMethod:
    """Starts processes with ``os.fork``."""

    name = "fork"

    def start(self, process: NewProcess, made: SpawnResources) -> None:
        """See `SpawnMethod.start`."""
        programs = _programs(process)
        words = (*programs, *process.argv, process.enter or b"", *process.environment.values())
        if b"\0" in b"".join((*words, *process.environment)):
            message = "embedded null byte"
            raise ValueError(message)
        keeper = os.getpid()
        steps = _steps(process, programs, keeper)
        # A signal between fork and exec would run the keeper's handler in the new process, and that
        # handler writes to a pipe that the keeper reads. So all signals are blocked until the new
        # process has the default handlers.
        before = made.signals_before = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
        try:
            made.pid = os.fork() or _become_script(steps, process.status)
        finally:
            if os.getpid() != keeper:
                os._exit(_FAILED)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            made.signals_before = None


def _become_script(steps: list[_Step], status: int) -> NoReturn:
    """Take all steps in the forked process; the last one is the exec of the program."""
    step, number = SpawnStep.ARGUMENTS, errno.EIO
    try:
        for step, act in steps:  # noqa: B007 - the report names the step
            act()
    except OSError as error:
        number = error.errno or errno.EIO
    except ValueError:  # setrlimit raises it for EINVAL
        number = errno.EINVAL
    except MemoryError:
        number = errno.ENOMEM
    finally:
        # The process must not return to the keeper's code, whatever went wrong.
        os.write(status, REPORT.pack(step, number))
        os._exit(_FAILED)


def _steps(process: NewProcess, programs: list[bytes], keeper: int) -> list[_Step]:
    """Return the steps that a process needs, in the order of `SpawnStep`."""
    cgroup, limits, enter = process.cgroup, process.descriptor_limits, process.enter
    steps: list[_Step] = [
        (SpawnStep.SESSION, lambda: _die_with(keeper)),
        (SpawnStep.SESSION, os.setsid),
    ]
    if process.terminal:
        terminal = process.streams[0]
        steps.append((SpawnStep.TERMINAL, lambda: fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)))
    if cgroup is not None:
        steps.append((SpawnStep.CGROUP, lambda: os.write(cgroup, b"0")))
    steps.append((SpawnStep.DIRECTORY, lambda: os.fchdir(process.directory)))
    steps.append((SpawnStep.DIRECTORY, lambda: os.umask(0o077)))
    steps.append((SpawnStep.DESCRIPTORS, lambda: _arrange_descriptors(process)))
    if limits is not None:
        set_limits = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits)  # noqa: E731
        steps.append((SpawnStep.LIMIT, set_limits))
    if process.user.changes:
        steps += _user_steps(process.user, keeper)
    steps.append((SpawnStep.SIGNALS, _default_signals))
    if enter is not None:
        steps.append((SpawnStep.ENTER, lambda: os.chdir(enter)))
    steps.append((SpawnStep.EXEC, lambda: _exec(process, programs)))
    return steps


def _user_steps(user: ScriptUser, keeper: int) -> list[_Step]:
    uid, gid = user.uid, user.gid
    return [
        (SpawnStep.GROUPS, lambda: os.setgroups(user.groups)),
        (SpawnStep.GROUP, lambda: os.setresgid(gid, gid, gid)),
        (SpawnStep.USER, lambda: os.setresuid(uid, uid, uid)),
        # The change of user has reset these two options. The process still has the keeper's memory,
        # which another process of this user must not read.
        (SpawnStep.USER, hide_from_ptrace),
        (SpawnStep.USER, lambda: _die_with(keeper)),
        (SpawnStep.CAPABILITIES, drop_capabilities),
        (SpawnStep.USER_CHECK, lambda: _check_user(user)),
    ]


def _die_with(keeper: int) -> None:
    """Have the kernel kill this process when the keeper dies.

    A later keeper finds a script by its environment. Until its exec this process has the keeper's
    environment, so a later keeper could not find it.
    """
    signal_when_parent_dies(signal.SIGKILL)
    if os.getppid() != keeper:  # the keeper died before the option was set
        os._exit(_FAILED)


def _arrange_descriptors(process: NewProcess) -> None:
    """Give the process its four descriptors, and close all others but the status.

    The status closes at the exec. A process that hangs in a later step keeps no other script's pipe
    open.
    """
    for number, descriptor in (*enumerate(process.streams), (SCRIPT_DESCRIPTOR, process.script)):
        os.dup2(descriptor, number, inheritable=True)
    first = 3
    for kept in sorted((SCRIPT_DESCRIPTOR, process.status)):
        os.closerange(first, kept)
        first = kept + 1
    # Descriptors above the soft limit exist only if the keeper has inherited them.
    os.closerange(first, max(first, resource.getrlimit(resource.RLIMIT_NOFILE)[0]))


def _check_user(user: ScriptUser) -> None:
    """Check that the process has the user's ids, and that root cannot be regained."""
    if os.getresuid() != (user.uid,) * 3 or os.getresgid() != (user.gid,) * 3:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _default_signals() -> None:
    for number in _HANDLED_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _programs(process: NewProcess) -> list[bytes]:
    """Return the paths where the program may be, in the order of the process's ``PATH``."""
    program = process.argv[0]
    if b"/" in program:
        return [program]
    path = process.environment.get(b"PATH", os.defpath.encode())
    return [os.path.join(directory, program) for directory in path.split(b":")]


def _exec(process: NewProcess, programs: list[bytes]) -> NoReturn:
    """Exec the first program that can be run.

    Raises:
        OSError: no program can be run. If some exist, this is the first of their errors, since most
            directories of the path lack the program.
    """
    signal_when_parent_dies(0)
    first_error: OSError | None = None
    for program in programs:
        try:
            os.execve(program, process.argv, process.environment)  # noqa: S606 - a shell is not wanted
        except OSError as error:
            missing = error.errno in (errno.ENOENT, errno.ENOTDIR) and len(programs) > 1
            if first_error is None and not missing:
                first_error = error
    raise first_error or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
