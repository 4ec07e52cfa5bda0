"""One life of the keeper's child: a process, the socket to it, and what waits to be sent.

Frames to it may be dropped: what they say is in the journal. Frames from it are taken as they come;
the keeper never waits for it. It exits by itself when the socket closes.
"""

import json
import os
import socket
import subprocess
import time
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from scriptservice.keeper.config import KeeperConfig
from scriptservice.keeper.system.event_loop import HANGUP, READABLE, WRITABLE, EventLoop
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.upgrade_state import ChildProcessState
from scriptservice.protocol.frames import Frame, FrameBuffer, encode

_BUFFER_BYTES = 1 << 20


def launch(
    config: KeeperConfig, listener: socket.socket | None, *, passive: bool
) -> tuple[int, socket.socket]:
    """Start the child's program; return its process id and our end of the socket.

    Args:
        config: says which program it is.
        listener: the listening socket it inherits, None for none.
        passive: it is to prepare, and to touch nothing before it is greeted.

    Raises:
        OSError: there is no such program, no process or no descriptor now.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)  # noqa: FBT003
    kept = [theirs.fileno()]
    argv = [*config.child_argv, "--keeper-fd", str(theirs.fileno())]
    if listener is not None:
        kept.append(listener.fileno())
        argv += ["--listen-fd", str(listener.fileno())]
    memory = _memory_file(config.child_config)
    kept.append(memory)
    argv += ["--config-fd", str(memory)]
    if passive:
        argv += ["--passive", "1"]
    try:
        process = subprocess.Popen(
            argv, pass_fds=kept, stdin=subprocess.DEVNULL, start_new_session=True
        )
    finally:
        theirs.close()
        os.close(memory)
    process.returncode = 0  # reaped by pid, as the scripts are
    return process.pid, ours


def _memory_file(content: dict[str, Any]) -> int:
    descriptor = os.memfd_create("scriptservice-config", os.MFD_CLOEXEC)
    os.write(descriptor, json.dumps(content).encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


class ChildProcess:
    """One process and the socket to it, from its start until it is reaped.

    Args:
        loop: events.
        pid: of the process.
        ours: our end of the socket.
        handle: its pidfd; by default it is opened.
        on_frame: called with each frame it sends.
        on_end: called with its exit code (negative: signal) after it died.
    """

    def __init__(
        self,
        loop: EventLoop,
        pid: int,
        ours: socket.socket,
        handle: int | None = None,
        *,
        on_frame: Callable[[Frame], None],
        on_end: Callable[["ChildProcess", int], None],
    ) -> None:
        self._loop = loop
        self._on_frame = on_frame
        self._on_end = on_end
        # If this fails the socket closes with it, and that ends the child.
        self._handle = os.pidfd_open(pid) if handle is None else handle
        self.pid = pid
        self.started_at = time.monotonic()
        self._socket: socket.socket | None = ours
        self._frames = FrameBuffer()
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self._latest_end: bytes | None = None
        loop.watch(ours.fileno(), self._ready)
        loop.watch(self._handle, self._handle_ready)

    def listen_with(self, on_frame: Callable[[Frame], None]) -> None:
        """Call back another with the frames it sends from now on."""
        self._on_frame = on_frame

    def send(self, frame: Frame) -> None:
        """Give it a frame, now or when it reads again; dropped if too much waits already."""
        if self._socket is None:
            return
        data = encode(frame)
        if self._out_bytes + len(data) > _BUFFER_BYTES:
            return
        self._out.append(data)
        self._out_bytes += len(data)
        self._flush()

    def send_journal_end(self, position: int) -> None:
        """Tell it how far the journal reaches; only the latest such news waits."""
        if self._socket is None:
            return
        self._latest_end = encode({"type": "end", "position": position})
        self._flush()

    def _flush(self) -> None:
        if self._socket is None:
            return
        try:
            while self._out or self._latest_end:
                if not self._out and self._latest_end:
                    self._out.append(self._latest_end)
                    self._out_bytes += len(self._latest_end)
                    self._latest_end = None
                sent = self._socket.send(self._out[0])
                self._out_bytes -= sent
                if sent == len(self._out[0]):
                    self._out.popleft()
                else:
                    self._out[0] = self._out[0][sent:]
            self._loop.change(self._socket.fileno(), READABLE)
        except BlockingIOError:
            self._loop.change(self._socket.fileno(), READABLE | WRITABLE)
        except OSError:
            self._disconnect()

    def _ready(self, events: int) -> None:
        if self._socket is None:
            return
        if events & WRITABLE:
            self._flush()
        if events & (READABLE | HANGUP):
            self._receive()

    def _receive(self) -> bool:
        """Take some of what it has sent; return whether there may be more."""
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

    def _handle_ready(self, _: int) -> None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.process_reaped(status)

    def process_reaped(self, status: int) -> None:
        """It died and was reaped.

        Args:
            status: as ``waitpid`` returns it.
        """
        self._loop.unwatch(self._handle)
        os.close(self._handle)
        # What it had sent before it died counts: a stop it took is not to be forgotten.
        while self._receive():
            pass
        self._disconnect()
        self._on_end(self, os.waitstatus_to_exitcode(status))

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, 9)

    # Handing over

    def to_state(self) -> ChildProcessState:
        """Return all of it, for the keeper's next program."""
        return ChildProcessState(
            pid=self.pid,
            handle=self._handle,
            socket=None if self._socket is None else self._socket.fileno(),
            started_at=self.started_at,
            received=b64encode(self._frames.incomplete).decode(),
            outgoing=b64encode(b"".join(self._out)).decode(),
            latest_end=None if self._latest_end is None else b64encode(self._latest_end).decode(),
        )

    @classmethod
    def from_state(
        cls,
        loop: EventLoop,
        state: ChildProcessState,
        *,
        on_frame: Callable[[Frame], None],
        on_end: Callable[["ChildProcess", int], None],
    ) -> "ChildProcess":
        """Return the life that the keeper's program before this one handed over."""
        if state.socket is None:
            ours, other = socket.socketpair()  # it hung up and has not been reaped yet
            other.close()
        else:
            ours = socket.socket(fileno=state.socket)
        life = cls(loop, state.pid, ours, state.handle, on_frame=on_frame, on_end=on_end)
        life.restore(state)
        return life

    def restore(self, state: ChildProcessState) -> None:
        """Go on where the keeper's program before this one was."""
        self.started_at = state.started_at
        self._frames.restore(b64decode(state.received))
        if outgoing := b64decode(state.outgoing):
            # In one piece: where a frame was half sent, its rest comes first.
            self._out.append(outgoing)
            self._out_bytes = len(outgoing)
        if state.latest_end is not None:
            self._latest_end = b64decode(state.latest_end)
        self._flush()
