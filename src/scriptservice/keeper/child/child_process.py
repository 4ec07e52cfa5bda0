"""One process that runs as the keeper's child: its start, its socket, and its unsent frames.

If the process does not read, frames to it are dropped: the journal contains the same information.
Frames from the process are handled as they arrive. The keeper never waits for the process. When the
socket closes, the process exits by itself.
"""

import json
import os
import signal
import socket
import subprocess
import time
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from scriptservice.keeper.config import KeeperConfig
from scriptservice.keeper.system.event_loop import (
    HANGUP,
    READABLE,
    WRITABLE,
    EventLoop,
    Pause,
)
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.upgrade_state import ChildProcessState
from scriptservice.protocol.frames import Frame, FrameBuffer, encode

_BUFFER_BYTES = 1 << 20


def start_child(
    config: KeeperConfig, listener: socket.socket | None, *, passive: bool
) -> tuple[int, socket.socket]:
    """Start the child's program.

    Args:
        config: contains the child's program and configuration.
        listener: the listening socket that the child inherits, None for a worker.
        passive: whether the child only prepares, and changes nothing before the keeper greets it.

    Returns:
        The process id, and the keeper's end of the socket to the process.

    Raises:
        OSError: the program does not exist, or a limit of processes or descriptors is reached.
    """
    keeper_end, child_end = socket.socketpair()
    keeper_end.setblocking(False)  # noqa: FBT003
    inherited = [child_end.fileno()]
    argv = [*config.child_argv, "--keeper-fd", str(child_end.fileno())]
    if listener is not None:
        inherited.append(listener.fileno())
        argv += ["--listen-fd", str(listener.fileno())]
    memory_file = _memory_file(config.child_config)
    inherited.append(memory_file)
    argv += ["--config-fd", str(memory_file)]
    if passive:
        argv += ["--passive", "1"]
    try:
        process = subprocess.Popen(
            argv, pass_fds=inherited, stdin=subprocess.DEVNULL, start_new_session=True
        )
    finally:
        child_end.close()
        os.close(memory_file)
    # With this value Popen never waits for the process. The keeper reaps the process.
    process.returncode = 0
    return process.pid, keeper_end


def _memory_file(content: dict[str, Any]) -> int:
    descriptor = os.memfd_create("scriptservice-config", os.MFD_CLOEXEC)
    os.write(descriptor, json.dumps(content).encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


class ChildProcess:
    """One process and the socket to it, from its start until it is reaped.

    Args:
        loop: watches the socket and the pidfd.
        pid: the process id.
        keeper_end: the keeper's end of the socket.
        pidfd: the pidfd of the process; None to open one here.
        on_frame: called with each frame that the process sends.
        on_exit: called after the process was reaped, with this object and the exit code. If a
            signal killed the process, the exit code is the negative number of the signal.

    Raises:
        OSError: no pidfd can be opened, or it cannot be watched. The process is killed then, and
            ``keeper_end`` is closed.
    """

    def __init__(
        self,
        loop: EventLoop,
        pid: int,
        keeper_end: socket.socket,
        pidfd: int | None = None,
        *,
        on_frame: Callable[[Frame], None],
        on_exit: Callable[["ChildProcess", int], None],
    ) -> None:
        self._loop = loop.supervised(self)
        self._on_frame = on_frame
        self._on_exit = on_exit
        self.pid = pid
        self.started_at = time.monotonic()
        self._exit_code: int | None = None
        self._exit_reported = False
        self._pause = Pause()
        self._socket: socket.socket | None = keeper_end
        self._frames = FrameBuffer()
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._drops_frames = False
        self._parts: Iterator[Frame] = iter(())
        self._latest_end: bytes | None = None
        self._pidfd = -1 if pidfd is None else pidfd
        try:
            if pidfd is None:
                self._pidfd = os.pidfd_open(pid)
            self._loop.watch(keeper_end.fileno(), self._socket_ready)
            self._loop.watch(self._pidfd, self._pidfd_ready)
        except OSError:
            # Nobody would supervise this process, and another process is started in its place.
            self.kill()
            self._disconnect()
            if self._pidfd >= 0:
                os.close(self._pidfd)
            raise

    def callback_failed(self, error: Exception) -> None:  # noqa: ARG002 - it is logged
        """Kill the process, so that its owner starts another; if it has ended, report its end."""
        if self._exit_code is None:
            self.kill()
        elif not self._exit_reported:
            self._loop.after(self._pause.next_seconds(), self._end)

    def set_frame_callback(self, on_frame: Callable[[Frame], None]) -> None:
        """Call another callback with the frames that arrive from now on."""
        self._on_frame = on_frame

    def send(self, frame: Frame) -> None:
        """Send a frame, now or when the process reads again.

        The frame is dropped if the socket is closed, or if more than 1 MiB waits to be sent. A
        single frame of any size is sent if nothing else waits.
        """
        if self._socket is None:
            return
        data = encode(frame)
        if self._unsent and self._unsent_bytes + len(data) > _BUFFER_BYTES:
            if not self._drops_frames:
                self._drops_frames = True
                logger.warning("frame_dropped", kind=frame["type"])
            return
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        self._flush()

    def send_parts(self, parts: Iterator[Frame]) -> None:
        """Send frames that together may be large; each is made when those before it are sent.

        These frames replace the unsent frames of an earlier call, which nobody waits for any more.
        """
        self._parts = parts
        self._flush()

    def send_journal_end(self, position: int) -> None:
        """Send the journal position at which the journal ends.

        If the previous position is not sent yet, this position is sent in its place.
        """
        if self._socket is None:
            return
        self._latest_end = encode({"type": "end", "position": position})
        self._flush()

    def _flush(self) -> None:
        if self._socket is None:
            return
        try:
            while self._unsent or self._add_next():
                sent = self._socket.send(self._unsent[0])
                self._unsent_bytes -= sent
                if sent == len(self._unsent[0]):
                    self._unsent.popleft()
                else:
                    self._unsent[0] = self._unsent[0][sent:]
            self._loop.change(self._socket.fileno(), READABLE)
        except BlockingIOError:
            self._loop.change(self._socket.fileno(), READABLE | WRITABLE)
        except OSError:
            self._disconnect()

    def _add_next(self) -> bool:
        """Add the frame that follows the last unsent frame; return False if there is none."""
        if self._latest_end is not None:
            data, self._latest_end = self._latest_end, None
        elif part := next(self._parts, None):
            data = encode(part)
        else:
            return False
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        return True

    def _socket_ready(self, events: int) -> None:
        if self._socket is None:
            return
        if events & WRITABLE:
            self._flush()
        if events & (READABLE | HANGUP):
            self._receive()

    def _receive(self) -> bool:
        """Handle some of the frames that have arrived; return whether more frames may wait."""
        if self._socket is None:
            return False
        try:
            data = self._socket.recv(1 << 18)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._disconnect()
            return False
        try:
            for frame in self._frames.feed(data):
                self._on_frame(frame)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            logger.error("server_not_understood", detail=repr(error))
            self.kill()
        return True

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _pidfd_ready(self, _: int) -> None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.process_reaped(status)

    @property
    def is_reaped(self) -> bool:
        """Whether the process was reaped; another process may have its id now."""
        return self._exit_code is not None

    def process_reaped(self, status: int) -> None:
        """Receive the last frames, close the socket, and call ``on_exit``.

        Args:
            status: the wait status, from ``waitpid``.
        """
        self._exit_code = os.waitstatus_to_exitcode(status)
        self._loop.call(self._end)

    def _end(self) -> None:
        if self._pidfd >= 0:
            pidfd, self._pidfd = self._pidfd, -1
            self._loop.unwatch(pidfd)
            os.close(pidfd)
        # Handle the frames that the process sent before it died. One of them may be a request to
        # stop a command, which must not be lost.
        while self._receive():
            pass
        self._disconnect()
        if not self._exit_reported and self._exit_code is not None:
            self._exit_reported = True
            self._on_exit(self, self._exit_code)

    def kill(self) -> None:
        """Send SIGKILL to the process, unless it has ended."""
        if self._exit_code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    # Hand-over

    def to_state(self) -> ChildProcessState:
        """Return the state of this object, for the keeper's next program."""
        for part in self._parts:
            self._unsent.append(encode(part))
            self._unsent_bytes += len(self._unsent[-1])
        return ChildProcessState(
            pid=self.pid,
            handle=self._pidfd,
            socket=None if self._socket is None else self._socket.fileno(),
            started_at=self.started_at,
            received=b64encode(self._frames.incomplete).decode(),
            outgoing=b64encode(b"".join(self._unsent)).decode(),
            latest_end=None if self._latest_end is None else b64encode(self._latest_end).decode(),
        )

    @classmethod
    def from_state(
        cls,
        loop: EventLoop,
        state: ChildProcessState,
        *,
        on_frame: Callable[[Frame], None],
        on_exit: Callable[["ChildProcess", int], None],
    ) -> "ChildProcess":
        """Return the process that the keeper's previous program handed over."""
        if state.socket is None:
            # The process has closed its end of the socket and was not reaped yet. Use a new socket
            # whose other end is closed too.
            keeper_end, other_end = socket.socketpair()
            other_end.close()
        else:
            keeper_end = socket.socket(fileno=state.socket)
        process = cls(loop, state.pid, keeper_end, state.handle, on_frame=on_frame, on_exit=on_exit)
        process.restore(state)
        return process

    def restore(self, state: ChildProcessState) -> None:
        """Take over the half received frame and the frames that wait to be sent."""
        self.started_at = state.started_at
        self._frames.restore(b64decode(state.received))
        if outgoing := b64decode(state.outgoing):
            # The bytes stay in one piece, because they may begin with the rest of a frame that was
            # sent in part.
            self._unsent.append(outgoing)
            self._unsent_bytes = len(outgoing)
        if state.latest_end is not None:
            self._latest_end = b64decode(state.latest_end)
        self._flush()
