"""The upgrade in place, step by step, from SIGHUP to the next program of the same process.

1. A successor of the server prepares.
2. The server retires.
3. The successor takes over.
4. A separate process loads the next keeper's code, and tells whether that code accepts the keeper's
   state.
5. The keeper hands its state over to the next program, and executes that program.

If a step fails, the present keeper continues as it is and reports the reason.
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
"""The longest time that the keeper waits for the answer of the check process.

The keeper does nothing else meanwhile. The check is quick, since the process has loaded the code
before.
"""

SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
_SHUTDOWN_SIGNALS = {signal.SIGTERM, signal.SIGINT}
_OUTPUT_BYTES = 64 << 10


class _Step(Enum):
    NONE = auto()
    PREPARING = auto()
    RETIRING = auto()
    TAKING_OVER = auto()
    LOADING = auto()
    HANDING_OVER = auto()


class Upgrade:
    """Runs one upgrade at a time.

    If upgrades are requested while one runs, only one more upgrade follows, however many were
    requested.

    Args:
        data_dir: the data directory, for the report of each upgrade.
        loop: watches the check process, and runs timers.
        child: starts the successor of the server, and asks the server to retire.
        service_manager: gets a notification at the beginning and at the end of each upgrade.
        keeper_state: returns the keeper's state; called with the state of this upgrade and the
            numbers of the signals that arrived and were not handled yet.
    """

    def __init__(
        self,
        data_dir: str,
        loop: EventLoop,
        child: ChildSupervisor,
        service_manager: ServiceManager,
        *,
        keeper_state: Callable[[UpgradeState, set[int]], KeeperState],
    ) -> None:
        self._data_dir = data_dir
        self._event_loop = loop
        self._loop = loop.supervised(self)
        self._child = child
        self._service_manager = service_manager
        self._keeper_state = keeper_state
        self._step = _Step.NONE
        self._number = read_upgrade_report(data_dir).number
        self._began_at = 0.0
        self._release = ""
        self._another_requested = False
        self._stopping = False
        self._step_timer: Timer | None = None
        self._check: _CheckProcess | None = None

    def callback_failed(self, error: Exception) -> None:
        """Abort the upgrade; the present keeper goes on.

        A server that was already asked to retire is killed, and its successor takes over.
        """
        if self._step is _Step.RETIRING:
            self._child.kill_retiring()
        self._fail(f"the keeper has failed: {error}")

    @property
    def active(self) -> bool:
        """Whether an upgrade is under way."""
        return self._step is not _Step.NONE

    @property
    def pids(self) -> set[int]:
        """The id of the check process, if that process runs.

        `ChildSupervisor.pids` has the ids of the servers.
        """
        return set() if self._check is None else {self._check.pid}

    def upgrade_requested(self) -> None:
        """Begin an upgrade; if an upgrade runs already, begin another upgrade after it."""
        if self._stopping:
            return
        if self.active:
            self._another_requested = True
            return
        self._number += 1
        self._began_at = time.monotonic()
        logger.info("upgrade", step="a new server prepares")
        self._service_manager.notify_reloading()
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
                    f"the new server did not serve within {TAKE_OVER_SECONDS:g} s; it is restarted "
                    "until it does, and the keeper stays the old one"
                )
            case _Step.LOADING:
                self._fail(f"the new keeper was not loaded within {LOAD_SECONDS:g} s")

    # Steps of the server

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
        """Handle the exit of the old server: wait until its successor takes over."""
        if self._step is _Step.RETIRING:
            self._enter(_Step.TAKING_OVER, "the new server takes over", TAKE_OVER_SECONDS)

    def server_answered(self) -> None:
        """Load the next keeper's code if the server that answered is the successor.

        The answer comes from the successor if the old server has retired in this upgrade.
        """
        if self._step is not _Step.TAKING_OVER:
            return
        self._enter(_Step.LOADING, "the new keeper loads", LOAD_SECONDS)
        try:
            self._check = _CheckProcess()
            self._loop.watch(self._check.reader, self._check_output_ready)
        except OSError as error:
            self._fail(f"the new keeper cannot be tried: {error}")

    # Steps of the keeper

    def _check_output_ready(self, _: int) -> None:
        check = self._check
        if check is None or self._step is not _Step.LOADING:
            return
        if not check.read():
            self._fail(f"the new keeper cannot be loaded: {check.last_line}")
        elif check.last_line == "loaded":
            self._loop.unwatch(check.reader)
            self._step = _Step.HANDING_OVER

    def batch_ended(self) -> None:
        """Hand over to the next program if that is the next step.

        The hand-over takes place between two batches of events, when no callback is half done.
        """
        if self._step is _Step.HANDING_OVER:
            self._hand_over()

    def _hand_over(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        signals: set[int] = set()
        reason = "the service is shutting down"
        try:
            signals = self._event_loop.take_pending_signals()
            if not signals & _SHUTDOWN_SIGNALS:
                reason = self._exec_next(signals)
        except Exception as error:  # noqa: BLE001 - the scripts must go on
            logger.exception("keeper_fault", detail="the keeper continues")
            reason = f"the keeper cannot be handed over: {error}"
        finally:
            # The keeper reaches this line only if there was no exec, or if the exec failed.
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._event_loop.return_signals(signals)
        self._fail(reason)

    def _exec_next(self, signals: set[int]) -> str:
        """Execute the next program; return only if that fails, with the reason."""
        assert self._check is not None  # noqa: S101 - for the type checker
        state = UpgradeState(
            number=self._number,
            release=self._release,
            again=self._another_requested,
            began_at=self._began_at,
        )
        keeper_state = self._keeper_state(state, signals)
        write_state(self._check.memory, keeper_state)
        if not self._check.accepts_state(CHECK_SECONDS):
            return f"the new keeper cannot take over: {self._check.last_line}"
        self._check.kill()
        exec_next_program(self._check.memory, keeper_state)
        return "the exec returned"

    def process_reaped(self, pid: int) -> bool:
        """Handle the end of a process that the `Reaper` has reaped, if it is the check process.

        Returns:
            Whether it is the check process.
        """
        if self._check is None or self._check.pid != pid:
            return False
        self._check.process_reaped()
        return True

    # The end

    def shutdown_started(self) -> None:
        """Give up the present upgrade, and begin no further upgrade."""
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
        if self._check is not None:
            self._loop.unwatch(self._check.reader)
            self._check.close()
            self._check = None
        write_upgrade_report(
            self._data_dir, UpgradeReport(self._number, done=True, ok=ok, message=message)
        )
        if not self._stopping:
            self._service_manager.notify_ready()
        if self._another_requested:
            self._another_requested = False
            self.upgrade_requested()

    def restore(self, state: UpgradeState) -> None:
        """Finish the upgrade that the keeper's previous program began."""
        self._number = state.number
        self._another_requested = state.again
        seconds = round(time.monotonic() - state.began_at, 1)
        logger.info("upgraded", release=state.release, seconds=seconds)
        self._finish(ok=True, message=f"upgraded to release {state.release} in {seconds} s")


class _CheckProcess:
    """A process that tells whether the code on disk accepts the keeper's state.

    The process loads that code and calls `scriptservice.keeper.upgrade.handover.run_check`.

    Attributes:
        pid: the process id.
        memory: descriptor of a file in memory, for the state.
        reader: descriptor from which the output of the process is read.
        last_line: the last line of that output.

    Raises:
        OSError: the process cannot be started.
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
        # With this value Popen never waits for the process. The keeper reaps the process.
        process.returncode = 0
        assert process.stdin is not None  # noqa: S101 - for the type checker
        assert process.stdout is not None  # noqa: S101 - for the type checker
        self.pid = process.pid
        self._stdin, self._stdout = process.stdin, process.stdout
        self.reader = process.stdout.fileno()
        os.set_blocking(self.reader, False)
        self._output = b""
        self._was_reaped = False

    @property
    def last_line(self) -> str:
        lines = self._output.decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it printed nothing")

    def read(self) -> bool:
        """Read the output that has arrived; return False at the end of the output."""
        with suppress(BlockingIOError):
            data = os.read(self.reader, _OUTPUT_BYTES)
            self._output = (self._output + data)[-_OUTPUT_BYTES:]
            return bool(data)
        return True

    def accepts_state(self, seconds: float) -> bool:
        """Return whether the process accepts the state that was written to `memory`.

        The keeper tells the process that the state is written, and waits for the answer.

        Args:
            seconds: the longest time to wait. If no answer has come by then, the result is False.
        """
        deadline = time.monotonic() + seconds
        self._output = b""
        with suppress(BrokenPipeError):
            os.write(self._stdin.fileno(), b"\n")
        while (left := deadline - time.monotonic()) > 0:
            poll = select.poll()  # select() cannot wait for a descriptor beyond 1023.
            poll.register(self.reader, select.POLLIN)
            if not poll.poll(left * 1000):
                break
            if not self.read():
                return self._output.endswith(b"taken\n")
        self._output = b"it did not answer in time\n"
        return False

    def process_reaped(self) -> None:
        """Note that the process was reaped: another process may have its id now."""
        self._was_reaped = True

    def kill(self) -> None:
        """Kill the process, unless it was reaped before.

        The keeper reaps the killed process later, perhaps only after it has executed its next
        program.

        The keeper does not wait for the end of the process. If the process waits for a device in
        the kernel, it ends late.
        """
        if not self._was_reaped:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill the process and close the descriptors of this object."""
        self.kill()
        for file in (self._stdin, self._stdout):
            with suppress(OSError):
                file.close()
        os.close(self.memory)
