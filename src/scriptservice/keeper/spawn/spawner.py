"""Starts scripts: the one path from a request to a process with its pipes.

What a process is made of is put together here; ``cloning``, ``launcher`` or ``forking`` starts it,
decided once at the keeper's start. ``waiting`` calls this; it knows neither
journal nor loop.
"""

import errno
import os
import resource
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass

from scriptservice.keeper.spawn.cloning import CloneMethod
from scriptservice.keeper.spawn.exec_failure import raise_failure, read_failure
from scriptservice.keeper.spawn.forking import ForkMethod
from scriptservice.keeper.spawn.launcher import LauncherMethod
from scriptservice.keeper.spawn.new_process import SCRIPT_DESCRIPTOR, NewProcess, SpawnMethod
from scriptservice.keeper.spawn.script_files import input_file
from scriptservice.keeper.spawn.script_user import ScriptUser
from scriptservice.keeper.system.linux import process_stat
from scriptservice.keeper.upgrade_state import ScriptUserState, SpawnerState
from scriptservice.protocol.fault_points import reached
from scriptservice.protocol.frames import PRIVATE_DIRECTORY, SpawnSpec

COMMAND_ID_VARIABLE = "SCRIPTSERVICE_COMMAND_ID"

_LATER = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT}
_TICK_NANOSECONDS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class SpawnError(Exception):
    """A script could not be started.

    Attributes:
        retry: whether it is for want of something that comes back; else it can never work.
    """

    def __init__(self, reason: str, *, retry: bool) -> None:
        super().__init__(reason)
        self.retry = retry


@dataclass(frozen=True, slots=True)
class SpawnedProcess:
    """A process that was started.

    Attributes:
        pid: its process id, session and group.
        handle: its pidfd.
        start_ticks: clock ticks from boot to its start.
        stdout: read end of its pipe.
        stderr: read end of its pipe.
        pipes: inode numbers of both pipes.
        private_directory: to be removed at the end, None if it has none.
        status: tells whether it became the script, to be given to `Spawner.confirm` once it can be
            read; None: it did.
    """

    pid: int
    handle: int
    start_ticks: int
    stdout: int
    stderr: int
    pipes: tuple[int, int]
    private_directory: str | None
    status: int | None


class Spawner:
    """Starts scripts as one user, in the directories below one data directory.

    Args:
        data_dir: holds ``work`` and ``private``.
        user: as whom scripts run.
        path: their ``PATH``.
        lang: their ``LANG``.
        use_launcher: whether to start them by what is built from ``launcher/``, if it is there
            and works.
        handed: what the keeper's program before this one had; None at a start.
    """

    def __init__(
        self,
        data_dir: str,
        user: ScriptUser,
        *,
        path: str,
        lang: str,
        use_launcher: bool = True,
        handed: SpawnerState | None = None,
    ) -> None:
        self._user = user
        self._work = os.path.join(data_dir, "work")
        self._private = os.path.join(data_dir, "private")
        self._script_limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._raised = False
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        # Nothing else of the keeper may ever get the number that scripts are given.
        os.dup2(self._null, SCRIPT_DESCRIPTOR, inheritable=False)
        if handed is None:
            if not os.path.isdir(self._private):
                os.mkdir(self._private)
            os.chmod(self._private, 0o711)  # noqa: S103 - scripts pass through to theirs
            self._make_work()
            self._work_handle = self._open_directory(self._work)
        else:
            # Not opened again: a script may have closed its directory meanwhile.
            self._work_handle = handed.work
            self._script_limits = (handed.soft_limit, handed.hard_limit)
            self._raised = handed.raised
        home = user.home or self._work
        self._environment = {
            b"PATH": os.fsencode(path),
            b"HOME": os.fsencode(home),
            b"USER": user.name.encode(),
            b"LOGNAME": user.name.encode(),
            b"SHELL": b"/bin/bash",
            b"LANG": lang.encode(),
        }
        # A keeper after an upgrade asks anew: what starts scripts belongs to the code.
        found = self._quick_way() if use_launcher else None
        self._way: SpawnMethod = found or ForkMethod(self._null)

    def _quick_way(self) -> SpawnMethod | None:
        trial = self._trial()
        # Nobody of another user is to be in the keeper's memory, not for a moment.
        if not self._user.changes and (cloning := CloneMethod.found(trial)):
            return cloning
        return LauncherMethod.found(trial)

    def _trial(self) -> NewProcess:
        """Return a process like a script's whose program cannot be run: it is a directory."""
        return NewProcess(
            words=[b"/"],
            environment={},
            directory=self._work_handle,
            script=self._null,
            streams=(self._null, self._null, self._null),
            user=self._user,
            files=self._script_limits,
        )

    @property
    def way(self) -> str:
        """How scripts are started: ``clone``, ``launcher`` or ``fork``."""
        return self._way.name

    def to_state(self) -> SpawnerState:
        """Return what the keeper's next program cannot find out again."""
        user = {**asdict(self._user), "groups": list(self._user.groups)}
        return SpawnerState(
            user=ScriptUserState(**user),
            soft_limit=self._script_limits[0],
            hard_limit=self._script_limits[1],
            raised=self._raised,
            work=self._work_handle,
        )

    def _make_work(self) -> None:
        if not os.path.isdir(self._work):
            os.mkdir(self._work, 0o700)
        if self._user.changes and os.stat(self._work).st_uid != self._user.uid:
            os.chown(self._work, self._user.uid, self._user.gid)

    @property
    def uid(self) -> int:
        """As whom scripts run."""
        return self._user.uid

    @property
    def capacity(self) -> int:
        """How many scripts can run at once before descriptors run out: three each."""
        return max(1, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 256) // 3)

    def _open_directory(self, path: str) -> int:
        """Open a directory as the script's user may; the real user stays, so it cannot signal us.

        Raises:
            OSError: it cannot be entered by that user, or is no directory.
        """
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        if not self._user.changes:
            handle = os.open(path, flags)
            if not os.access(f"/proc/self/fd/{handle}", os.X_OK):
                os.close(handle)
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return handle
        groups = os.getgroups()
        gid = os.getegid()
        try:
            os.setgroups(self._user.groups)
            os.setegid(self._user.gid)
            os.seteuid(self._user.uid)
            # A trailing dot needs search permission on the directory itself, as chdir does.
            return os.open(os.path.join(path, "."), flags)
        finally:
            os.seteuid(0)
            os.setegid(gid)
            os.setgroups(groups)

    def spawn(self, spec: SpawnSpec, cgroup: int | None) -> SpawnedProcess:
        """Start a script.

        Args:
            spec: what to run.
            cgroup: an open ``cgroup.procs`` that the process is to enter, None for none.

        Returns:
            Its process; if that has a status, whether it runs is known by `confirm` only.

        Raises:
            SpawnError: nothing runs and nothing is left behind.
        """
        opened: list[int] = []
        private: str | None = None
        try:
            if spec.working_directory == PRIVATE_DIRECTORY:
                private = self._make_private(spec.id)
            directory = self._enter(spec, private, opened)
            script = input_file(spec.script.encode(), self._private, opened)
            stdin = self._null
            if spec.stdin is not None:
                stdin = input_file(spec.stdin.encode(), self._private, opened)
            stdout, stdout_writer = self._pipe(opened)
            stderr, stderr_writer = self._pipe(opened)
            # Room for the pidfd: once the process exists, failing would run it twice.
            reserve = os.dup(self._null)
            opened.append(reserve)
            self._raise_limit_if_close(reserve)
            reached("spawn.process")
            process = NewProcess(
                words=[word.encode() for word in _words(spec)],
                environment=self._environment_of(spec),
                directory=directory,
                script=script,
                streams=(stdin, stdout_writer, stderr_writer),
                user=self._user,
                cgroup=cgroup,
                files=self._script_limits if self._raised else None,
            )
            before = _ticks()
            pid, status = self._way.start(process)
            # Both ends of the same tick: it began within. Else only /proc knows, which is slower.
            start_ticks = before if _ticks() == before else None
            opened.remove(reserve)
            os.close(reserve)
            try:
                spawned = _identify(pid, start_ticks, (stdout, stderr), private, status)
            except SpawnError:
                self._settled(status)
                _remove_empty(private)
                raise
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            _remove_empty(private)
            raise _spawn_error(error, spec) from error
        else:
            opened.remove(stdout)
            opened.remove(stderr)
            return spawned
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def confirm(self, spawned: SpawnedProcess, spec: SpawnSpec) -> None:
        """Make sure that a process which has a status became the script; closes the status.

        Waits until that is certain.

        Args:
            spawned: what `spawn` returned.
            spec: what `spawn` was given.

        Raises:
            SpawnError: nothing runs and nothing is left behind.
        """
        if spawned.status is None:
            return
        failure = read_failure(spawned.status)
        if failure is None:
            self._settled(spawned.status)
            return
        with suppress(ProcessLookupError):  # it is ending by itself, unless somebody stopped it
            signal.pidfd_send_signal(spawned.handle, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(spawned.pid, 0)
        self._settled(spawned.status)
        for descriptor in (spawned.handle, spawned.stdout, spawned.stderr):
            os.close(descriptor)
        _remove_empty(spawned.private_directory)
        try:
            raise_failure(*failure, [word.encode() for word in spec.interpreter])
        except (OSError, subprocess.SubprocessError) as error:
            raise _spawn_error(error, spec) from error

    def _settled(self, status: int | None) -> None:
        """Close what tells of a process: it has become its script, or is gone."""
        if status is not None:
            os.close(status)
            self._way.settled(status)

    def _make_private(self, command: str) -> str:
        path = os.path.join(self._private, command)
        os.mkdir(path, 0o700)
        if self._user.changes:
            os.chown(path, self._user.uid, self._user.gid)
        return path

    def _enter(self, spec: SpawnSpec, private: str | None, opened: list[int]) -> int:
        """Return an O_PATH handle of the working directory."""
        wanted = private or spec.working_directory
        if wanted is not None:
            opened.append(self._open_directory(os.path.join(self._work, wanted)))
            return opened[-1]
        if os.fstat(self._work_handle).st_nlink == 0:
            os.close(self._work_handle)
            self._make_work()
            self._work_handle = self._open_directory(self._work)
        return self._work_handle

    def _raise_limit_if_close(self, newest: int) -> None:
        """Raise the keeper's soft limit once descriptors grow scarce.

        Until then scripts inherit the limit the service was started with, and vfork can be used;
        afterwards it is restored in the child before exec.
        """
        soft, hard = self._script_limits
        if not self._raised and soft < hard and newest > soft - 64:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            self._raised = True

    def _pipe(self, opened: list[int]) -> tuple[int, int]:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        opened += (reader, writer)
        if self._user.changes:
            # So that a script may open its own /dev/stdout and /dev/stderr by name.
            os.fchown(writer, self._user.uid, self._user.gid)
        return reader, writer

    def _environment_of(self, spec: SpawnSpec) -> dict[bytes, bytes]:
        environment = {**self._environment, COMMAND_ID_VARIABLE.encode(): spec.id.encode()}
        for name, value in spec.env.items():
            environment[name.encode()] = value.encode()
        return environment


def _words(spec: SpawnSpec) -> list[str]:
    return [*spec.interpreter, f"/dev/fd/{SCRIPT_DESCRIPTOR}", *spec.args]


def _ticks() -> int:
    """Return clock ticks from boot to now, as /proc counts the start of a process."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _TICK_NANOSECONDS


def _identify(
    pid: int,
    start_ticks: int | None,
    readers: tuple[int, int],
    private: str | None,
    status: int | None,
) -> SpawnedProcess:
    """Return what names a process that was just started.

    Raises:
        SpawnError: that cannot be had; the process is gone.
    """
    handle = -1
    try:
        handle = os.pidfd_open(pid)
        if start_ticks is None:
            stat = process_stat(pid)
            start_ticks = stat.start_ticks if stat else 0
    except OSError as error:
        if handle >= 0:
            os.close(handle)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise SpawnError(
            f"cannot keep hold of the process: {error.strerror}", retry=False
        ) from error
    stdout, stderr = readers
    return SpawnedProcess(
        pid=pid,
        handle=handle,
        start_ticks=start_ticks,
        stdout=stdout,
        stderr=stderr,
        pipes=(os.fstat(stdout).st_ino, os.fstat(stderr).st_ino),
        private_directory=private,
        status=status,
    )


def _remove_empty(private: str | None) -> None:
    """Remove the private directory of a script that never was in it."""
    if private is not None:
        with suppress(OSError):
            os.rmdir(private)


def _spawn_error(error: Exception, spec: SpawnSpec) -> SpawnError:
    if isinstance(error, ValueError):
        return SpawnError(f"cannot start the script: {error}", retry=False)
    if not isinstance(error, OSError):
        # The child could not enter its cgroup or change its user: nothing of the script's.
        return SpawnError(f"cannot prepare the process: {error}", retry=True)
    why = os.strerror(error.errno) if error.errno else str(error)
    if error.filename == spec.interpreter[0].encode():
        reason = f"cannot run {spec.interpreter[0]}: {why}"
    elif spec.working_directory is not None and error.filename is not None:
        reason = f"cannot enter working directory {spec.working_directory}: {why}"
    else:
        reason = f"cannot start the script: {why}"
    return SpawnError(reason, retry=error.errno in _LATER)


def reset_signals() -> None:
    """Undo what our own parent ignored or blocked, which scripts would inherit."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and number not in (
            signal.SIGPIPE,
            signal.SIGXFSZ,
        ):
            signal.signal(number, signal.SIG_DFL)
