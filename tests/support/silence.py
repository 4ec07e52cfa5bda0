"""A proxy on loopback that falls silent: it stops forwarding and keeps its connections open.

A firewall that forgets a connection, or a machine that loses power, behaves like this: no FIN, no
RST.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Literal

NewConnections = Literal["work", "hang", "refuse"]


class _Pair:
    """A client's connection and, unless it hangs, the connection to the service."""

    def __init__(self, client: socket.socket, server: socket.socket | None) -> None:
        self.client = client
        self.server = server
        self.silent = server is None
        self._lock = threading.Lock()

    def hold(self) -> None:
        """Forward nothing from now on."""
        with self._lock:
            self.silent = True

    def pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                with self._lock:
                    if not self.silent:
                        sink.sendall(data)
        if not self.silent:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in (self.client, self.server):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()


class SilentProxy:
    """Forwards TCP connections to a port of this machine until `fall_silent`.

    Attributes:
        port: the port that it listens on.
        accepted: how many connections it has accepted.
        new: how it treats new connections.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._pairs: list[_Pair] = []
        self._lock = threading.Lock()
        self.accepted = 0
        self.new: NewConnections = "work"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fall_silent(self, new: NewConnections) -> None:
        """Forward nothing on existing connections, and treat new ones as ``new`` says."""
        with self._lock:
            self.new = new
            for pair in self._pairs:
                pair.hold()
        if new == "refuse":
            self._stop_listening()

    def _stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                server = None
                if self.new == "work":
                    server = socket.create_connection(("127.0.0.1", self._target))
                pair = _Pair(client, server)
                self._pairs.append(pair)
                self.accepted += 1
            if server is not None:
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=pair.pump, args=ends, daemon=True).start()

    def close(self) -> None:
        self._stop_listening()
        with self._lock:
            for pair in self._pairs:
                pair.close()


@contextlib.contextmanager
def silent_proxy(target: int) -> Iterator[SilentProxy]:
    """Run a proxy while the ``with`` block runs."""
    made = SilentProxy(target)
    try:
        yield made
    finally:
        made.close()
