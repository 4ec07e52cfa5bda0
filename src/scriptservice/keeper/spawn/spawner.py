"""Starts scripts: makes a process with its pipes from a specification.

The spawner prepares everything that a process needs. One of three methods then starts the process:
``cloning``, ``launcher`` or ``forking``. At the keeper's start, the spawner chooses the first of
these methods that is allowed for the scripts' user and works. ``keeper.command.start_queue`` calls
the spawner. The spawner must not know the journal or the event loop.
"""

import errno
import os
import resource
import signal
import subprocess
from contextlib import suppress
from dataclasses import asdict

from scriptservice.keeper.spawn.cloning import CloneMethod
from scriptservice.keeper.spawn.exec_failure import raise_failure, read_failure
from scriptservice.keeper.spawn.forking import ForkMethod
from scriptservice.keeper.spawn.launcher import LauncherMethod
from scriptservice.keeper.spawn.new_process import SCRIPT_DESCRIPTOR, NewProcess, SpawnMethod
from scriptservice.keeper.spawn.script_files import input_file
from scriptservice.keeper.spawn.script_user import ScriptUser
from scriptservice.keeper.spawn.spawn_error import SpawnError, spawn_error
from scriptservice.keeper.spawn.spawned_process import SpawnedProcess, boot_ticks, identify
from scriptservice.keeper.upgrade_state import ScriptUserState, SpawnerState
from scriptservice.protocol.fault_points import reached
from scriptservice.protocol.frames import PRIVATE_DIRECTORY, SpawnSpec

COMMAND_ID_VARIABLE = "SCRIPTSERVICE_COMMAND_ID"


class Spawner:
    """Starts scripts as one user, in the directories below one data directory.

    Args:
        data_dir: the data directory, which contains ``work`` and ``private``.
        user: the user that scripts run as.
        path: the scripts' ``PATH``.
        lang: the scripts' ``LANG``.
        use_launcher: whether to try the methods that are built from ``launcher/``: ``cloning`` and
            ``launcher``. If False, ``forking`` is used.
        state: the spawner's state in the keeper's previous program, None if there was none.
    """

    def __init__(
        self,
        data_dir: str,
        user: ScriptUser,
        *,
        path: str,
        lang: str,
        use_launcher: bool = True,
        state: SpawnerState | None = None,
    ) -> None:
        self._user = user
        self._work = os.path.join(data_dir, "work")
        self._private = os.path.join(data_dir, "private")
        self._script_limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._raised = False
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        # No other file of the keeper may ever have the number SCRIPT_DESCRIPTOR.
        os.dup2(self._null, SCRIPT_DESCRIPTOR, inheritable=False)
        if state is None:
            if not os.path.isdir(self._private):
                os.mkdir(self._private)
            os.chmod(self._private, 0o711)  # noqa: S103 - scripts must reach their own directories
            self._make_work()
            self._work_descriptor = self._open_directory(self._work)
        else:
            # Use the previous program's descriptor of the directory. A script may have changed the
            # directory's mode, so that the directory cannot be opened again.
            self._work_descriptor = state.work
            self._script_limits = (state.soft_limit, state.hard_limit)
            self._raised = state.raised
        home = user.home or self._work
        self._environment = {
            b"PATH": os.fsencode(path),
            b"HOME": os.fsencode(home),
            b"USER": user.name.encode(),
            b"LOGNAME": user.name.encode(),
            b"SHELL": b"/bin/bash",
            b"LANG": lang.encode(),
        }
        # Each program of the keeper chooses the method itself. The previous program may be of
        # another release, and this program needs the launcher and clone.so of its own release.
        found = self._fast_method() if use_launcher else None
        self._method: SpawnMethod = found or ForkMethod(self._null)

    def _fast_method(self) -> SpawnMethod | None:
        trial = self._trial()
        # A process of another user must never share the keeper's memory, not even until its exec.
        if not self._user.changes and (cloning := CloneMethod.probe(trial)):
            return cloning
        return LauncherMethod.probe(trial)

    def _trial(self) -> NewProcess:
        """Return a process like that of a script, but with a program that cannot be run."""
        return NewProcess(
            argv=[b"/"],
            environment={},
            directory=self._work_descriptor,
            script=self._null,
            streams=(self._null, self._null, self._null),
            user=self._user,
            descriptor_limits=self._script_limits,
        )

    @property
    def method_name(self) -> str:
        """The name of the method that starts scripts: ``clone``, ``launcher`` or ``fork``."""
        return self._method.name

    def to_state(self) -> SpawnerState:
        """Return the state that the keeper's next program cannot find out by itself."""
        user = {**asdict(self._user), "groups": list(self._user.groups)}
        return SpawnerState(
            user=ScriptUserState(**user),
            soft_limit=self._script_limits[0],
            hard_limit=self._script_limits[1],
            raised=self._raised,
            work=self._work_descriptor,
        )

    def _make_work(self) -> None:
        if not os.path.isdir(self._work):
            os.mkdir(self._work, 0o700)
        if self._user.changes and os.stat(self._work).st_uid != self._user.uid:
            os.chown(self._work, self._user.uid, self._user.gid)

    @property
    def uid(self) -> int:
        """The uid of the user that scripts run as."""
        return self._user.uid

    @property
    def capacity(self) -> int:
        """How many scripts can run at a time; each needs three of the keeper's descriptors."""
        return max(1, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 256) // 3)

    def _open_directory(self, path: str) -> int:
        """Open a directory with the rights of the scripts' user.

        To get these rights, the keeper changes its effective user id, but not its real user id. If
        the keeper changed its real user id too, processes of the scripts' user could send signals
        to the keeper.

        Raises:
            OSError: the scripts' user cannot enter the directory, or the path is not a directory.
        """
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        if not self._user.changes:
            descriptor = os.open(path, flags)
            if not os.access(f"/proc/self/fd/{descriptor}", os.X_OK):
                os.close(descriptor)
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return descriptor
        groups = os.getgroups()
        gid = os.getegid()
        try:
            os.setgroups(self._user.groups)
            os.setegid(self._user.gid)
            os.seteuid(self._user.uid)
            # To resolve the dot at the end, the kernel checks the search permission of the
            # directory itself. The kernel makes the same check for chdir.
            return os.open(os.path.join(path, "."), flags)
        finally:
            os.seteuid(0)
            os.setegid(gid)
            os.setgroups(groups)

    def spawn(self, spec: SpawnSpec, cgroup: int | None) -> SpawnedProcess:
        """Start a script's process.

        Args:
            spec: the script.
            cgroup: a descriptor of the ``cgroup.procs`` file of the cgroup that the process enters,
                None for the keeper's own cgroup.

        Returns:
            The process. If its `status` is not None, only `confirm` tells whether the script runs.

        Raises:
            SpawnError: the script does not run; its process, pipes and directory are removed.
        """
        opened: list[int] = []
        private: str | None = None
        try:
            if spec.working_directory == PRIVATE_DIRECTORY:
                private = self._make_private(spec.id)
            directory = self._directory_for(spec, private, opened)
            script = input_file(spec.script.encode(), self._private, opened)
            stdin = self._null
            if spec.stdin is not None:
                stdin = input_file(spec.stdin.encode(), self._private, opened)
            stdout, stdout_writer = self._pipe(opened)
            stderr, stderr_writer = self._pipe(opened)
            # Reserve a descriptor for the pidfd. If no descriptor were free after the start, the
            # keeper would report a process that already runs as failed, and the script would run
            # twice.
            reserve = os.dup(self._null)
            opened.append(reserve)
            self._raise_limit_if_close(reserve)
            reached("spawn.process")
            process = NewProcess(
                argv=[word.encode() for word in _argv(spec)],
                environment=self._environment_of(spec),
                directory=directory,
                script=script,
                streams=(stdin, stdout_writer, stderr_writer),
                user=self._user,
                cgroup=cgroup,
                descriptor_limits=self._script_limits if self._raised else None,
            )
            spawned = self._start(process, (stdout, stderr), private, opened)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            _remove_empty(private)
            raise spawn_error(error, spec) from error
        else:
            opened.remove(stdout)
            opened.remove(stderr)
            return spawned
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _start(
        self,
        process: NewProcess,
        readers: tuple[int, int],
        private: str | None,
        opened: list[int],
    ) -> SpawnedProcess:
        """Start a process; the last item of ``opened`` is the descriptor reserved for its pidfd."""
        before = boot_ticks()
        pid, status = self._method.start(process)
        # If the clock tick is still the same as before the start, the process began in this tick.
        # Otherwise `identify` reads the start time from /proc, which is slower.
        start_ticks = before if boot_ticks() == before else None
        os.close(opened.pop())
        try:
            return identify(pid, start_ticks, readers, private, status)
        except SpawnError:
            self._release(status)
            _remove_empty(private)
            raise

    def confirm(self, spawned: SpawnedProcess, spec: SpawnSpec) -> None:
        """Wait until a process has become the script or has failed; close its status descriptor.

        Args:
            spawned: the process that `spawn` returned.
            spec: the script that was passed to `spawn`.

        Raises:
            SpawnError: the script does not run; its process, pipes and directory are removed.
        """
        if spawned.status is None:
            return
        failure = read_failure(spawned.status)
        if failure is None:
            self._release(spawned.status)
            return
        # The process exits by itself after its report, unless SIGSTOP has stopped it.
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(spawned.pidfd, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(spawned.pid, 0)
        self._release(spawned.status)
        for descriptor in (spawned.pidfd, spawned.stdout, spawned.stderr):
            os.close(descriptor)
        _remove_empty(spawned.private_directory)
        try:
            raise_failure(*failure, [word.encode() for word in spec.interpreter])
        except (OSError, subprocess.SubprocessError) as error:
            raise spawn_error(error, spec) from error

    def _release(self, status: int | None) -> None:
        """Close the status descriptor of a process that has become the script or has exited."""
        if status is not None:
            os.close(status)
            self._method.release(status)

    def _make_private(self, command_id: str) -> str:
        path = os.path.join(self._private, command_id)
        os.mkdir(path, 0o700)
        if self._user.changes:
            os.chown(path, self._user.uid, self._user.gid)
        return path

    def _directory_for(self, spec: SpawnSpec, private: str | None, opened: list[int]) -> int:
        """Return an ``O_PATH`` descriptor of a script's working directory.

        If a script has removed the shared directory, this method makes the directory again.
        """
        wanted = private or spec.working_directory
        if wanted is not None:
            opened.append(self._open_directory(os.path.join(self._work, wanted)))
            return opened[-1]
        if os.fstat(self._work_descriptor).st_nlink == 0:
            os.close(self._work_descriptor)
            self._make_work()
            self._work_descriptor = self._open_directory(self._work)
        return self._work_descriptor

    def _raise_limit_if_close(self, newest: int) -> None:
        """Raise the keeper's soft limit of descriptors when it is nearly reached.

        Until then, scripts inherit the limit that the service was started with, and `ForkMethod`
        can use vfork. Afterwards, each new process must set the original limit before its exec.

        Args:
            newest: the number of the descriptor that was opened last.
        """
        soft, hard = self._script_limits
        if not self._raised and soft < hard and newest > soft - 64:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            self._raised = True

    def _pipe(self, opened: list[int]) -> tuple[int, int]:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        opened += (reader, writer)
        if self._user.changes:
            # A script may open /dev/stdout or /dev/stderr by name. The kernel then checks the
            # pipe's owner and mode.
            os.fchown(writer, self._user.uid, self._user.gid)
        return reader, writer

    def _environment_of(self, spec: SpawnSpec) -> dict[bytes, bytes]:
        environment = {**self._environment, COMMAND_ID_VARIABLE.encode(): spec.id.encode()}
        for name, value in spec.env.items():
            environment[name.encode()] = value.encode()
        return environment


def _argv(spec: SpawnSpec) -> list[str]:
    return [*spec.interpreter, f"/dev/fd/{SCRIPT_DESCRIPTOR}", *spec.args]


def _remove_empty(private: str | None) -> None:
    """Remove the private directory of a script that did not start."""
    if private is not None:
        with suppress(OSError):
            os.rmdir(private)


def reset_signals() -> None:
    """Unblock all signals, and restore the default action of ignored signals.

    Otherwise scripts would inherit the blocked and ignored signals of the keeper's parent. Python
    itself ignores SIGPIPE and SIGXFSZ. These two signals stay ignored in the keeper.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and number not in (
            signal.SIGPIPE,
            signal.SIGXFSZ,
        ):
            signal.signal(number, signal.SIG_DFL)
