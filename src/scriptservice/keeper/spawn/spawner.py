"""Starts scripts: makes a process with its streams from a specification.

The spawner prepares everything that a process needs. One of two methods then starts the process:
the ``launcher``, or ``forking`` if the launcher does not work. ``keeper.command.start_queue`` calls
this module, which must not know the journal or the event loop.

The keeper itself opens no path that a user names: that could wait for ever for a file system that
does not answer, and would be done with the keeper's rights. The script's process enters such a
directory by itself, after its user has changed.
"""

import os
import resource
import signal
import stat
from contextlib import ExitStack
from dataclasses import asdict

from scriptservice.keeper.spawn.exec_failure import open_status_pipe
from scriptservice.keeper.spawn.forking import ForkMethod
from scriptservice.keeper.spawn.launcher import LauncherMethod
from scriptservice.keeper.spawn.new_process import (
    NO_PROCESS,
    SCRIPT_DESCRIPTOR,
    NewProcess,
    SpawnMethod,
    SpawnResources,
)
from scriptservice.keeper.spawn.script_files import input_file
from scriptservice.keeper.spawn.script_streams import ScriptStreams, open_pipes, open_terminal
from scriptservice.keeper.spawn.script_user import ScriptUser
from scriptservice.keeper.spawn.spawn_error import SpawnError, spawn_error
from scriptservice.keeper.spawn.spawned_process import SpawnedProcess, boot_ticks
from scriptservice.keeper.system.linux import process_stat
from scriptservice.keeper.upgrade_state import ScriptUserState, SpawnerState
from scriptservice.protocol.fault_points import reached
from scriptservice.protocol.frames import PRIVATE_DIRECTORY, SpawnSpec

COMMAND_ID_VARIABLE = "SCRIPTSERVICE_COMMAND_ID"
SPARE_DESCRIPTORS = 256
"""The keeper's descriptors that are not for running scripts."""
DESCRIPTORS_PER_SCRIPT = 3
"""A running script needs a pidfd and two pipes, or a pidfd and two descriptors of its terminal. A
script that takes input through a pipe needs one more."""
_DIRECTORY_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Spawner:
    """Starts scripts as one user, in the directories below one data directory.

    Args:
        data_dir: the data directory, which contains ``work`` and ``private``.
        user: the user that scripts run as.
        path: the scripts' ``PATH``.
        lang: the scripts' ``LANG``.
        use_launcher: whether to try the launcher. If False, the keeper is forked for each script.
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
            os.chmod(self._private, 0o711)  # noqa: S103 - scripts pass through to theirs
            self._make_work()
            self._work_descriptor = os.open(self._work, _DIRECTORY_FLAGS)
        else:
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
        # The method is not handed over to the next program, which may be of another release and
        # needs the launcher of that release.
        launcher = LauncherMethod.probe(self._trial()) if use_launcher else None
        self._method: SpawnMethod = launcher or ForkMethod()

    def _trial(self) -> NewProcess:
        """Return a process with the settings of a script's process, whose program cannot be run."""
        return NewProcess(
            argv=[b"/"],
            environment={},
            directory=self._work_descriptor,
            script=self._null,
            streams=(self._null, self._null, self._null),
            status=self._null,
            user=self._user,
            descriptor_limits=self._script_limits,
        )

    @property
    def method_name(self) -> str:
        """The name of the method that starts scripts: ``launcher`` or ``fork``."""
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
        """How many scripts can run at a time, if none of them takes input through a pipe."""
        hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        return max(1, (hard_limit - SPARE_DESCRIPTORS) // DESCRIPTORS_PER_SCRIPT)

    def spawn(self, spec: SpawnSpec, cgroup: int | None, cleanup: ExitStack) -> SpawnedProcess:
        """Start a script's process, without waiting until it has become the script.

        Args:
            spec: the script.
            cgroup: a descriptor of the ``cgroup.procs`` file of the cgroup that the process enters,
                None for the keeper's own cgroup.
            cleanup: undoes the start when it is closed, whether this call has succeeded or failed.
                It kills the process, closes its descriptors, and removes its private directory if
                that is empty. It does not wait for the end of the process, and does not reap it.
                Call ``pop_all`` to become the owner of a process that was started.

        Returns:
            The process. `read_outcome` tells from its `status` whether the script runs.

        Raises:
            SpawnError: the script does not run.
        """
        made = SpawnResources()
        cleanup.callback(made.undo)
        try:
            streams = self._streams_for(spec, made)
            status, status_writer = open_status_pipe(made)
            script = input_file(spec.script.encode(), self._private, made.opened)
            directory = self._directory_for(spec, made)
            self._raise_limit_if_close(max(made.opened))
            process = NewProcess(
                argv=[word.encode() for word in _argv(spec)],
                environment=self._environment_of(spec),
                directory=directory,
                script=script,
                streams=streams.of_script,
                status=status_writer,
                user=self._user,
                cgroup=cgroup,
                descriptor_limits=self._script_limits if self._raised else None,
                enter=_directory_to_enter(spec),
                terminal=spec.pty is not None,
            )
            reached("spawn.process")
            start_ticks = self._start(process, made)
        except (OSError, ValueError) as error:
            failure = spawn_error(error, spec)
            if made.pid != NO_PROCESS:
                failure.retry = False  # the script may already run
            raise failure from error
        made.close_except(status, *streams.of_keeper)
        try:
            # The descriptors that were just closed leave room for these two. Without that room, a
            # process that already runs would be reported as failed.
            made.pidfd = os.pidfd_open(made.pid)
            if start_ticks is None:
                found = process_stat(made.pid)
                start_ticks = found.start_ticks if found else 0
        except OSError as error:
            # The script may already run, so it must not be started again.
            reason = f"cannot open the pidfd of the process: {error.strerror}"
            raise SpawnError(reason, retry=False) from error
        return SpawnedProcess(
            pid=made.pid,
            pidfd=made.pidfd,
            start_ticks=start_ticks,
            stdout=streams.stdout,
            stderr=streams.stderr,
            pipes=streams.pipes,
            stdin=streams.stdin,
            private_directory=made.private_directory,
            status=status,
        )

    def _start(self, process: NewProcess, made: SpawnResources) -> int | None:
        """Start a process; return its start ticks, None if only /proc tells them.

        Reading them from /proc is slower.
        """
        before = boot_ticks()
        self._method.start(process, made)
        # If the clock tick is still the same, the process began in this tick.
        return before if boot_ticks() == before else None

    def _streams_for(self, spec: SpawnSpec, made: SpawnResources) -> ScriptStreams:
        opened = made.opened
        if spec.pty is not None:
            rows, cols = spec.pty
            return open_terminal(rows, cols, self._user, opened)
        if spec.interactive:
            return open_pipes(None, self._user, opened)
        if spec.stdin is None:
            return open_pipes(self._null, self._user, opened)
        stdin = input_file(spec.stdin.encode(), self._private, opened)
        return open_pipes(stdin, self._user, opened)

    def _directory_for(self, spec: SpawnSpec, made: SpawnResources) -> int:
        """Return an ``O_PATH`` descriptor of the directory that a process enters as the keeper."""
        if spec.working_directory != PRIVATE_DIRECTORY:
            self._mend_work(made)
            return self._work_descriptor
        made.private_directory = path = os.path.join(self._private, spec.id)
        os.mkdir(path, 0o700)
        if self._user.changes:
            os.chown(path, self._user.uid, self._user.gid)
        made.opened.append(os.open(path, _DIRECTORY_FLAGS | os.O_NOFOLLOW))
        return made.opened[-1]

    def _mend_work(self, made: SpawnResources) -> None:
        """Make the shared directory again if a script has removed it or closed it to its user."""
        found = os.fstat(self._work_descriptor)
        if found.st_nlink == 0:
            self._make_work()
            made.opened.append(os.open(self._work, _DIRECTORY_FLAGS))
            os.dup2(made.opened[-1], self._work_descriptor, inheritable=False)
        elif not self._user.changes and found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
            # The keeper has the same user, which can no longer enter the directory.
            mode = stat.S_IMODE(found.st_mode) | stat.S_IRWXU
            os.chmod(f"/proc/self/fd/{self._work_descriptor}", mode)

    def _raise_limit_if_close(self, newest: int) -> None:
        """Raise the keeper's soft limit of descriptors when it is nearly reached.

        Before that, scripts inherit the limit that the service was started with. Afterwards, each
        new process restores that limit before its exec.

        Args:
            newest: the highest number of a descriptor that was just opened.
        """
        soft, hard = self._script_limits
        if not self._raised and soft < hard and newest > soft - 64:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            self._raised = True

    def _environment_of(self, spec: SpawnSpec) -> dict[bytes, bytes]:
        environment = {**self._environment, COMMAND_ID_VARIABLE.encode(): spec.id.encode()}
        for name, value in spec.env.items():
            environment[name.encode()] = value.encode()
        return environment


def _argv(spec: SpawnSpec) -> list[str]:
    return [*spec.interpreter, f"/dev/fd/{SCRIPT_DESCRIPTOR}", *spec.args]


def _directory_to_enter(spec: SpawnSpec) -> bytes | None:
    """Return the directory that the process itself enters, as the scripts' user."""
    wanted = spec.working_directory
    return None if wanted is None or wanted == PRIVATE_DIRECTORY else wanted.encode()


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
