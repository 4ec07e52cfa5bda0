"""The upgrade in place, step by step, from SIGHUP to the next program of this same process.

A successor of the server prepares; the server retires; the successor takes over; the next keeper's
code is asked whether it can take the table; the keeper becomes it. Until the last step the present
keeper goes on as it is whenever something fails, and says why.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto

from scriptservice.keeper.child.supervisor import ChildSupervisor
from scriptservice.keeper.system.event_loop import EventLoop, Timer
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.system.service_manager import ServiceManager
from scriptservice.keeper.upgrade.handover import exec_next_program, write_state
from scriptservice.keeper.upgrade_state import KeeperState, UpgradeState
from scriptservice.protocol.frames import PROTOCOL_VERSION, Frame
from scriptservice.protocol.upgrade_report import (
    UpgradeReport,
    read_upgrade_report,
    write_upgrade_report,
)

PREPARE_SECONDS = 60.0
RETIRE_SECONDS = 15.0
TAKE_OVER_SECONDS = 60.0
LOAD_SECONDS = 30.0
CHECK_SECONDS = 5.0
"""The keeper stands still for so long at most; loading is done before."""

SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
_ENDING = {signal.SIGTERM, signal.SIGINT}
_OUTPUT_BYTES = 64 << 10


class _Step(Enum):
    NONE = auto()
    PREPARING = auto()
    RETIRING = auto()
    TAKING_OVER = auto()
    LOADING = auto()
    HANDING_OVER = auto()


class Upgrade:
    """One upgrade at a time, and at most one more that was asked for meanwhile.

    Args:
        data_dir: where it is told how it went.
        loop: events and timers.
        child: the server.
        manager: is told of the beginning and the end.
        state: returns the keeper's state with the state of this upgrade and the signals that
            arrived and were not acted on.
        on_signal: acts on such a signal if the keeper stays what it is.
    """

    def __init__(
        self,
        data_dir: str,
        loop: EventLoop,
        child: ChildSupervisor,
        manager: ServiceManager,
        *,
        state: Callable[[UpgradeState, set[int]], KeeperState],
        on_signal: Callable[[int], None],
    ) -> None:
        self._data_dir = data_dir
        self._loop = loop
        self._child = child
        self._manager = manager
        self._keeper_state = state
        self._on_signal = on_signal
        self._step = _Step.NONE
        self._number = read_upgrade_report(data_dir).number
        self._began_at = 0.0
        self._release = ""
        self._another_requested = False
        self._stopping = False
        self._step_timer: Timer | None = None
        self._checker: _Checker | None = None

    @property
    def active(self) -> bool:
        """Whether one is under way."""
        return self._step is not _Step.NONE

    @property
    def pids(self) -> set[int]:
        """The processes that run for it, beside the child's."""
        return set() if self._checker is None else {self._checker.pid}

    def upgrade_requested(self) -> None:
        """Somebody wants an upgrade."""
        if self._stopping:
            return
        if self.active:
            self._another_requested = True
            return
        self._number += 1
        self._began_at = time.monotonic()
        logger.info("upgrade", step="a new server prepares")
        self._manager.notify_reloading()
        self._enter(_Step.PREPARING, "a new server prepares", PREPARE_SECONDS)
        try:
            self._child.prepare_successor(self._successor_frame_received, self._successor_exited)
        except OSError as error:
            self._fail(f"the new server cannot be started: {error}")

    def _enter(self, step: _Step, message: str, seconds: float) -> None:
        self._step = step
        self._loop.cancel(self._step_timer)
        self._step_timer = self._loop.after(seconds, self._step_timed_out)
        if step is not _Step.PREPARING:
            logger.info("upgrade", step=message)
        write_upgrade_report(
            self._data_dir, UpgradeReport(self._number, done=False, ok=False, message=message)
        )

    def _step_timed_out(self) -> None:
        match self._step:
            case _Step.PREPARING:
                self._fail(f"the new server was not prepared within {PREPARE_SECONDS:g} s")
            case _Step.RETIRING:
                self._child.kill_retiring()
            case _Step.TAKING_OVER:
                self._fail(
                    f"the new server did not serve within {TAKE_OVER_SECONDS:g} s; it is started "
                    "again and again, the keeper is the old one"
                )
            case _Step.LOADING:
                self._fail(f"the new keeper was not loaded within {LOAD_SECONDS:g} s")

    # The server

    def _successor_frame_received(self, frame: Frame) -> None:
        if self._step is not _Step.PREPARING:
            return
        if frame["type"] == "fatal":
            self._fail(str(frame["message"]))
        elif frame["type"] == "prepared":
            if frame["protocol"] != PROTOCOL_VERSION:
                self._fail(
                    f"the new server speaks version {frame['protocol']} of the protocol, this "
                    f"keeper {PROTOCOL_VERSION}: restart the service"
                )
                return
            self._release = str(frame["release"])
            self._enter(_Step.RETIRING, "the old server retires", RETIRE_SECONDS)
            if self._child.retire():
                self.server_retired()

    def _successor_exited(self, code: int) -> None:
        if self._step is _Step.PREPARING:
            self._fail(f"the new server ended with {code} before it was prepared; the log says why")

    def server_retired(self) -> None:
        """The old server is gone, and the next one is greeted."""
        if self._step is _Step.RETIRING:
            self._enter(_Step.TAKING_OVER, "the new server takes over", TAKE_OVER_SECONDS)

    def server_answered(self) -> None:
        """The server serves; which one, the step tells."""
        if self._step is not _Step.TAKING_OVER:
            return
        self._enter(_Step.LOADING, "the new keeper loads", LOAD_SECONDS)
        try:
            self._checker = _Checker()
            self._loop.watch(self._checker.reader, self._checker_output_ready)
        except OSError as error:
            self._fail(f"the new keeper cannot be tried: {error}")

    # The keeper

    def _checker_output_ready(self, _: int) -> None:
        checker = self._checker
        if checker is None or self._step is not _Step.LOADING:
            return
        if not checker.read():
            self._fail(f"the new keeper cannot be loaded: {checker.last_line}")
        elif checker.last_line == "loaded":
            self._loop.unwatch(checker.reader)
            self._step = _Step.HANDING_OVER

    def batch_ended(self) -> None:
        """Hand over at the end of a batch, when nothing is in the midst of anything."""
        if self._step is _Step.HANDING_OVER:
            self._hand_over()

    def _hand_over(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        signals: set[int] = set()
        reason = "the service is shutting down"
        try:
            signals = self._loop.take_pending_signals()
            if not signals & _ENDING:
                reason = self._exec_next(signals)
        except Exception as error:  # noqa: BLE001 - whatever it is, the scripts go on
            logger.exception("keeper_fault", detail="it goes on")
            reason = f"the keeper cannot be handed over: {error}"
        finally:
            # Only if this program goes on.
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._fail(reason)
        for number in signals:
            self._on_signal(number)

    def _exec_next(self, signals: set[int]) -> str:
        """Become the next program; return only if that cannot be, with why."""
        assert self._checker is not None  # noqa: S101 - for the type checker
        state = UpgradeState(
            number=self._number,
            release=self._release,
            again=self._another_requested,
            began_at=self._began_at,
        )
        keeper_state = self._keeper_state(state, signals)
        write_state(self._checker.memory, keeper_state)
        if not self._checker.accepts_state(CHECK_SECONDS):
            return f"the new keeper cannot take over: {self._checker.last_line}"
        self._checker.reap()
        exec_next_program(self._checker.memory, keeper_state)
        return "the exec returned"

    def process_reaped(self, pid: int) -> bool:
        """Some process was reaped by chance; return whether it was the one that checks."""
        if self._checker is None or self._checker.pid != pid:
            return False
        self._checker.process_reaped()
        return True

    # The end

    def shutdown_started(self) -> None:
        """The service ends, which is more than any upgrade: no step follows the present one."""
        self._stopping = True
        self._another_requested = False
        if self._step is _Step.PREPARING:
            self._child.drop_successor()
        if self.active:
            self._finish(ok=False, message="the service is shutting down")

    def _fail(self, reason: str) -> None:
        if not self.active:
            return
        if self._step is _Step.PREPARING:
            self._child.drop_successor()
        logger.error("upgrade_failed", detail=reason)
        self._finish(ok=False, message=reason)

    def _finish(self, *, ok: bool, message: str) -> None:
        self._step = _Step.NONE
        self._loop.cancel(self._step_timer)
        self._step_timer = None
        if self._checker is not None:
            self._loop.unwatch(self._checker.reader)
            self._checker.close()
            self._checker = None
        write_upgrade_report(
            self._data_dir, UpgradeReport(self._number, done=True, ok=ok, message=message)
        )
        if not self._stopping:
            self._manager.notify_ready()
        if self._another_requested:
            self._another_requested = False
            self.upgrade_requested()

    def restore(self, state: UpgradeState) -> None:
        """Finish, as the new program, what the one before began."""
        self._number = state.number
        self._another_requested = state.again
        seconds = round(time.monotonic() - state.began_at, 1)
        logger.info("upgraded", release=state.release, seconds=seconds)
        self._finish(ok=True, message=f"upgraded to release {state.release} in {seconds} s")


class _Checker:
    """A process with the code that is on disk now, which says whether that can take a table.

    Attributes:
        pid: its process id.
        memory: a file in memory, for the table.
        reader: the read end of what it says.
        last_line: the last line it said.
    """

    def __init__(self) -> None:
        self.memory = os.memfd_create("scriptservice-handover", os.MFD_CLOEXEC)
        arguments = ["-I", "-m", "scriptservice.keeper", "--check-handover", str(self.memory)]
        try:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                pass_fds=[self.memory],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError:
            os.close(self.memory)
            raise
        process.returncode = 0  # reaped by pid
        assert process.stdin is not None  # noqa: S101 - for the type checker
        assert process.stdout is not None  # noqa: S101 - for the type checker
        self.pid = process.pid
        self._stdin, self._stdout = process.stdin, process.stdout
        self.reader = process.stdout.fileno()
        os.set_blocking(self.reader, False)
        self._output = b""
        self._gone = False

    @property
    def last_line(self) -> str:
        lines = self._output.decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")

    def read(self) -> bool:
        """Take what it has said; return False at its end."""
        with suppress(BlockingIOError):
            data = os.read(self.reader, _OUTPUT_BYTES)
            self._output = (self._output + data)[-_OUTPUT_BYTES:]
            return bool(data)
        return True

    def accepts_state(self, seconds: float) -> bool:
        """Ask whether it takes the table that is in memory now; wait so long for the answer."""
        deadline = time.monotonic() + seconds
        self._output = b""
        with suppress(BrokenPipeError):
            os.write(self._stdin.fileno(), b"\n")
        while (left := deadline - time.monotonic()) > 0:
            poll = select.poll()  # select() cannot wait for a large descriptor
            poll.register(self.reader, select.POLLIN)
            if not poll.poll(left * 1000):
                break
            if not self.read():
                return self._output.endswith(b"taken\n")
        self._output = b"it did not answer in time\n"
        return False

    def process_reaped(self) -> None:
        """Its process is gone, and its id may be another's."""
        self._gone = True

    def reap(self) -> None:
        """End its process, and see it gone."""
        if not self._gone:
            self._gone = True
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)

    def close(self) -> None:
        """End its process and close what is open."""
        self.reap()
        for file in (self._stdin, self._stdout):
            with suppress(OSError):
                file.close()
        os.close(self.memory)
