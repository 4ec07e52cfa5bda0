"""The keeper's child, the server (or the worker), through all its lives: restarted when it dies.

At an upgrade there are two for a while: the one that serves, and a successor that has prepared and
waits to be greeted. The successor is greeted when the other is gone, whatever ended it.
"""

import socket
import time
from collections.abc import Callable

from scriptservice.keeper.child.child_process import ChildProcess, launch
from scriptservice.keeper.config import KeeperConfig
from scriptservice.keeper.system.event_loop import EventLoop
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.upgrade_state import ChildSupervisorState
from scriptservice.protocol.frames import Frame

BACKOFF_SECONDS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
STEADY_SECONDS = 2.0


class ChildSupervisor:
    """The one child, through all its lives.

    Args:
        config: says which program it is.
        loop: events and timers.
        listener: the listening socket it inherits, None for none.
        hello: returns the first frame for each new child.
        on_frame: called with each frame it sends.
        on_exit: called after it died with its exit code (negative: signal), and whether it had
            been told to retire.

    Attributes:
        starts: how many were greeted.
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
        self._loop = loop
        self._listener = listener
        self._hello = hello
        self._on_frame = on_frame
        self._on_exit = on_exit
        self._process: ChildProcess | None = None
        self._successor: ChildProcess | None = None
        self._dropped: set[ChildProcess] = set()
        self._on_lost: Callable[[int], None] = lambda _: None
        self._retiring = False
        self._failures = 0
        self._wanted = True
        self.starts = 0

    @property
    def pids(self) -> set[int]:
        """The child's process, its successor's, and those of dropped ones that are not reaped."""
        return {life.pid for life in self._processes()}

    def _processes(self) -> list[ChildProcess]:
        return [
            each for each in (self._process, self._successor, *self._dropped) if each is not None
        ]

    def start(self) -> None:
        """Start it, now."""
        if not self._wanted or self._process is not None:
            return
        if self._successor is not None and self._retiring:
            self._greet(self._successor)
            return
        try:
            pid, ours = launch(self._config, self._listener, passive=False)
            life = ChildProcess(self._loop, pid, ours, on_frame=self._on_frame, on_end=self._ended)
        except OSError as error:
            logger.error("server_cannot_start", detail=str(error))
            self._loop.after(BACKOFF_SECONDS[-1], self.start)
        else:
            self._greet(life)

    def _greet(self, life: ChildProcess) -> None:
        if life is self._successor:
            self._successor = None
            life.listen_with(self._on_frame)
            life.started_at = time.monotonic()
        self._retiring = False
        self._process = life
        self.starts += 1
        self.send(self._hello())

    def send(self, frame: Frame) -> None:
        """See `ChildProcess.send`."""
        if self._process is not None:
            self._process.send(frame)

    def send_journal_end(self, position: int) -> None:
        """See `ChildProcess.send_journal_end`."""
        if self._process is not None:
            self._process.send_journal_end(position)

    def process_reaped(self, pid: int, status: int) -> bool:
        """Some process was reaped; return whether it was ours.

        Args:
            pid: its id.
            status: as ``waitpid`` returns it.
        """
        for life in self._processes():
            if life.pid == pid:
                life.process_reaped(status)
                return True
        return False

    def _ended(self, life: ChildProcess, code: int) -> None:
        """A process of ours died; the one that served starts again unless it is not wanted."""
        if life in self._dropped:
            self._dropped.remove(life)
            return
        if life is self._successor:
            self._successor = None
            self._on_lost(code)
            return
        self._process = None
        if time.monotonic() - life.started_at >= STEADY_SECONDS:
            self._failures = 0
        retired = self._retiring
        self._on_exit(code, retired)
        if not self._wanted:
            return
        if retired:
            self.start()
            self._retiring = False
            return
        delay = BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)]
        self._failures += 1
        logger.warning("server_ended", code=code, again_in_seconds=delay)
        self._loop.after(delay, self.start)

    def stop_restarting(self) -> None:
        """Start it no more after it ends."""
        self._wanted = False

    def kill(self) -> None:
        """End it, and its successor, at once."""
        for life in self._processes():
            life.kill()

    # Upgrading

    def prepare(self, on_frame: Callable[[Frame], None], on_lost: Callable[[int], None]) -> None:
        """Start a successor, which prepares and waits.

        Args:
            on_frame: called with what it sends before it is greeted.
            on_lost: called with its exit code if it dies before it is greeted.

        Raises:
            OSError: it cannot be started.
        """
        pid, ours = launch(self._config, self._listener, passive=True)
        self._on_lost = on_lost
        self._successor = ChildProcess(self._loop, pid, ours, on_frame=on_frame, on_end=self._ended)

    def drop_successor(self) -> None:
        """End the successor: the present child goes on."""
        if self._successor is not None:
            self._dropped.add(self._successor)
            self._successor.kill()
            self._successor = None

    def retire(self) -> bool:
        """Ask the child to make room for the successor; return whether there was none to ask."""
        self._retiring = True
        if self._process is None:
            self.start()
            return True
        self._process.send({"type": "retire"})
        return False

    def kill_retiring(self) -> None:
        """End at once a child that was asked to retire and has not."""
        if self._retiring and self._process is not None:
            logger.warning("server_not_retired", detail="it is ended; the next one takes over")
            self._process.kill()

    # Handing over

    def to_state(self) -> ChildSupervisorState:
        """Return all of it, for the keeper's next program; there is no successor then."""
        return ChildSupervisorState(
            life=None if self._process is None else self._process.to_state(),
            starts=self.starts,
            failures=self._failures,
        )

    def restore(self, state: ChildSupervisorState) -> None:
        """Take the child over from the keeper's program before this one."""
        self.starts = state.starts
        self._failures = state.failures
        if state.life is not None:
            self._process = ChildProcess.from_state(
                self._loop, state.life, on_frame=self._on_frame, on_end=self._ended
            )
        else:
            delay = BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)]
            self._loop.after(delay, self.start)
