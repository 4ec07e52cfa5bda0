"""The keeper's child, the server (or the worker): started, listened to, restarted when it dies.

The child exits by itself when the socketpair closes. Frames to it may be dropped: what they say
is in the journal. Frames from it are taken as they come; the keeper never waits for it.
"""

import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from scriptservice.keeper.config import KeeperConfig
from scriptservice.keeper.log import logger
from scriptservice.keeper.loop import HANGUP, READABLE, WRITABLE, Loop
from scriptservice.keeper.protocol import Frame, FrameBuffer, encode

BACKOFF_SECONDS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
STEADY_SECONDS = 2.0
_BUFFER_BYTES = 1 << 20


class Child:
    """The one child, through all its lives.

    Args:
        config: says which program it is.
        loop: events and timers.
        listener: the listening socket it inherits, None for none.
        hello: returns the first frame for each new child.
        on_frame: called with each frame it sends.
        on_gone: called with its exit code (negative: signal) after it died.
    """

    def __init__(
        self,
        config: KeeperConfig,
        loop: Loop,
        listener: socket.socket | None,
        *,
        hello: Callable[[], Frame],
        on_frame: Callable[[Frame], None],
        on_gone: Callable[[int], None],
    ) -> None:
        self._config = config
        self._loop = loop
        self._listener = listener
        self._hello = hello
        self._on_frame = on_frame
        self._on_gone = on_gone
        self._socket: socket.socket | None = None
        self._handle = -1
        self._frames = FrameBuffer()
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self._latest_end: bytes | None = None
        self._failures = 0
        self._started_at = 0.0
        self._wanted = True
        self.pid: int | None = None
        self.starts = 0

    def start(self) -> None:
        """Start it, now."""
        if not self._wanted or self.pid is not None:
            return
        try:
            self._launch()
        except OSError as error:
            logger.error("server_cannot_start", detail=str(error))
            self._loop.after(BACKOFF_SECONDS[-1], self.start)

    def _launch(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)  # noqa: FBT003
        kept = [theirs.fileno()]
        argv = [*self._config.child_argv, "--keeper-fd", str(theirs.fileno())]
        if self._listener is not None:
            kept.append(self._listener.fileno())
            argv += ["--listen-fd", str(self._listener.fileno())]
        config = _memory_file(self._config.child_config)
        kept.append(config)
        argv += ["--config-fd", str(config)]
        try:
            process = subprocess.Popen(
                argv, pass_fds=kept, stdin=subprocess.DEVNULL, start_new_session=True
            )
        finally:
            theirs.close()
            os.close(config)
        process.returncode = 0  # reaped by pid, as the scripts are
        # If this fails the socket closes with it, and that ends the child.
        self._handle = os.pidfd_open(process.pid)
        self.pid = process.pid
        self.starts += 1
        self._started_at = time.monotonic()
        self._socket = ours
        self._frames = FrameBuffer()
        self._out.clear()
        self._out_bytes = 0
        self._latest_end = None
        self._loop.watch(ours.fileno(), self._ready)
        self._loop.watch(self._handle, self._handle_ready)
        self.send(self._hello())

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

    def send_end(self, position: int) -> None:
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
        if self.pid is None:
            return
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.reaped(status)

    def reaped(self, status: int) -> None:
        """It died and was reaped; unless it is no longer wanted it starts again.

        Args:
            status: as ``waitpid`` returns it.
        """
        self._loop.unwatch(self._handle)
        os.close(self._handle)
        self._handle, self.pid = -1, None
        # What it had sent before it died counts: a stop it took is not to be forgotten.
        while self._receive():
            pass
        self._disconnect()
        code = os.waitstatus_to_exitcode(status)
        if time.monotonic() - self._started_at >= STEADY_SECONDS:
            self._failures = 0
        self._on_gone(code)
        if self._wanted:
            delay = BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)]
            self._failures += 1
            logger.warning("server_ended", code=code, again_in_seconds=delay)
            self._loop.after(delay, self.start)

    def release(self) -> None:
        """Start it no more after it ends."""
        self._wanted = False

    def kill(self) -> None:
        """End it at once."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, 9)


def _memory_file(content: dict[str, Any]) -> int:
    import json

    descriptor = os.memfd_create("scriptservice-config", os.MFD_CLOEXEC)
    os.write(descriptor, json.dumps(content).encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def child_argv(module: str) -> list[str]:
    """Return how a module of this installation is run: isolated from the caller's environment."""
    return [sys.executable, "-I", "-m", module]
