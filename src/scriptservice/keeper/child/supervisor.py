"""Supervises the keeper's child, the server (or the worker), and restarts it whenever it dies.

The keeper greets a child by a ``hello`` frame. Only then the child begins its work. During an
upgrade two processes run for a while: the present child, and a successor that prepares and then
waits for the greeting. The keeper asks the present child to retire. When the present child has
ended, for any reason, the keeper greets the successor.
"""

import socket
import time
from collections.abc import Callable, Iterator
from functools import partial

from scriptservice.keeper.child.child_process import ChildProcess, start_child
from scriptservice.keeper.config import KeeperConfig
from scriptservice.keeper.system.event_loop import EventLoop, Timer
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.upgrade_state import ChildSupervisorState
from scriptservice.protocol.frames import Frame

BACKOFF_SECONDS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
STEADY_SECONDS = 2.0
"""If a child served for at least this long, the next delay is the first of `BACKOFF_SECONDS`."""


class ChildSupervisor:
    """Keeps one child running, and replaces it during an upgrade.

    Args:
        config: contains the child's program and configuration.
        loop: watches the child, and runs timers.
        listener: the listening socket that the child inherits, None for a worker.
        hello: returns the first frame for a new child.
        on_frame: called with each frame that the child sends.
        on_exit: called after the child was reaped. The first argument is the child's exit code, or
            the negative number of the signal that killed the child. The second argument tells
            whether the child had been asked to retire.

    Attributes:
        starts: how many processes were greeted.
    """

    def __init__(
        self,
        config: KeeperConfig,
        loop: EventLoop,
        listener: socket.socket | None,
        *,
        hello: Callable[[], Frame],
        on_frame: Callable[[Frame], None],
        on_exit: Callable[[int, bool], None],
    ) -> None:
        self._config = config
        self._event_loop = loop
        self._loop = loop.supervised(self)
        self._start_timer: Timer | None = None
        self._listener = listener
        self._hello = hello
        self._on_frame = on_frame
        self._on_exit = on_exit
        self._process: ChildProcess | None = None
        self._successor: ChildProcess | None = None
        self._dropped: set[ChildProcess] = set()
        self._on_successor_exit: Callable[[int], None] = lambda _: None
        self._retiring = False
        self._failures = 0
        self._may_start = True
        self.starts = 0

    def callback_failed(self, error: Exception) -> None:  # noqa: ARG002 - it is logged
        """Replace the child; the loop calls this after the start of a child has failed.

        A child that was started but not greeted would wait for ever, so the child is killed. When
        it has ended, another child is started.
        """
        if self._process is not None:
            self._process.kill()
        else:
            self._start_later(BACKOFF_SECONDS[-1])

    @property
    def pids(self) -> set[int]:
        """Process ids of the child, its successor, and dropped successors that still run."""
        return {process.pid for process in self._processes() if not process.is_reaped}

    def _processes(self) -> list[ChildProcess]:
        return [
            each for each in (self._process, self._successor, *self._dropped) if each is not None
        ]

    def start(self) -> None:
        """Start a child, unless a child runs already.

        If the previous child was asked to retire and has a successor, greet the successor instead.
        """
        self._loop.cancel(self._start_timer)
        self._start_timer = None
        if not self._may_start or self._process is not None:
            return
        # Greet through `call`: if the greeting fails, `callback_failed` of this object then kills
        # that child.
        if self._successor is not None and self._retiring:
            self._loop.call(partial(self._greet, self._successor))
            return
        try:
            pid, keeper_end = start_child(self._config, self._listener, passive=False)
            process = ChildProcess(
                self._event_loop,
                pid,
                keeper_end,
                on_frame=self._on_frame,
                on_exit=self._process_exited,
            )
        except OSError as error:
            logger.error("server_cannot_start", detail=str(error))
            self._start_later(BACKOFF_SECONDS[-1])
        else:
            self._loop.call(partial(self._greet, process))

    def _start_later(self, seconds: float) -> None:
        self._loop.cancel(self._start_timer)
        self._start_timer = self._loop.after(seconds, self.start)

    def _greet(self, process: ChildProcess) -> None:
        if process is self._successor:
            self._successor = None
            process.set_frame_callback(self._on_frame)
            process.started_at = time.monotonic()
        self._retiring = False
        self._process = process
        self.starts += 1
        self.send(self._hello())

    def send(self, frame: Frame) -> None:
        """See `ChildProcess.send`; the frame is dropped while no child runs."""
        if self._process is not None:
            self._process.send(frame)

    def send_parts(self, parts: Iterator[Frame]) -> None:
        """See `ChildProcess.send_parts`; the frames are dropped while no child runs."""
        if self._process is not None:
            self._process.send_parts(parts)

    def send_journal_end(self, position: int) -> None:
        """See `ChildProcess.send_journal_end`; the position is dropped while no child runs."""
        if self._process is not None:
            self._process.send_journal_end(position)

    def process_reaped(self, pid: int, status: int) -> bool:
        """Handle the end of a process that the `Reaper` has reaped, if it is one of `pids`.

        Args:
            pid: the process id.
            status: the wait status, from ``waitpid``.

        Returns:
            Whether the process is one of `pids`.
        """
        for process in self._processes():
            if process.pid == pid and not process.is_reaped:
                process.process_reaped(status)
                return True
        return False

    def _process_exited(self, process: ChildProcess, code: int) -> None:
        if process in self._dropped:
            self._dropped.remove(process)
            return
        if process is self._successor:
            self._successor = None
            self._on_successor_exit(code)
            return
        self._process = None
        if time.monotonic() - process.started_at >= STEADY_SECONDS:
            self._failures = 0
        retired = self._retiring
        # A failure of `on_exit` must not prevent the start of the next child.
        self._loop.call(partial(self._on_exit, code, retired))
        if not self._may_start:
            return
        if retired:
            self.start()
            self._retiring = False
            return
        delay = BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)]
        self._failures += 1
        logger.warning("server_ended", code=code, again_in_seconds=delay)
        self._start_later(delay)

    def stop_restarting(self) -> None:
        """Start no process from now on."""
        self._may_start = False

    def kill(self) -> None:
        """Send SIGKILL to all processes of `pids`."""
        for process in self._processes():
            process.kill()

    # Upgrade

    def prepare_successor(
        self, on_frame: Callable[[Frame], None], on_exit: Callable[[int], None]
    ) -> None:
        """Start a successor, which prepares and then waits to be greeted.

        Args:
            on_frame: called with the frames that the successor sends before it is greeted.
            on_exit: called with the successor's exit code if it ends before it is greeted.

        Raises:
            OSError: the successor cannot be started.
        """
        pid, keeper_end = start_child(self._config, self._listener, passive=True)
        self._on_successor_exit = on_exit
        self._successor = ChildProcess(
            self._event_loop, pid, keeper_end, on_frame=on_frame, on_exit=self._process_exited
        )

    def drop_successor(self) -> None:
        """Kill the successor; the present child keeps running."""
        if self._successor is not None:
            self._dropped.add(self._successor)
            self._successor.kill()
            self._successor = None

    def retire(self) -> bool:
        """Ask the child to exit, so that the successor can take over.

        Returns:
            Whether the successor was greeted at once, since no child was running.
        """
        self._retiring = True
        if self._process is None:
            self.start()
            return True
        self._process.send({"type": "retire"})
        return False

    def kill_retiring(self) -> None:
        """Kill the child if it was asked to retire and still runs."""
        if self._retiring and self._process is not None:
            logger.warning("server_not_retired", detail="it is killed; the next one takes over")
            self._process.kill()

    # Hand-over

    def to_state(self) -> ChildSupervisorState:
        """Return the state of this object, for the keeper's next program.

        The state contains no successor: a hand-over takes place only while no successor exists.
        """
        return ChildSupervisorState(
            life=None if self._process is None else self._process.to_state(),
            starts=self.starts,
            failures=self._failures,
        )

    def restore(self, state: ChildSupervisorState) -> None:
        """Take over the child from the keeper's previous program."""
        self.starts = state.starts
        self._failures = state.failures
        if state.life is not None:
            self._process = ChildProcess.from_state(
                self._event_loop, state.life, on_frame=self._on_frame, on_exit=self._process_exited
            )
        else:
            delay = BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)]
            self._start_later(delay)
