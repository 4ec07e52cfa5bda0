"""A proxy in front of a PostgreSQL server: it can cut connections, and break or hold commits."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

_COMMIT = b"COMMIT"


class Proxy:
    """Forwards TCP connections to a port of this machine.

    Args:
        target: that port.

    Attributes:
        port: the port that it listens on.
        commit_seconds: delay of each commit.
        commits: how many commits clients have sent.
        commits_lost: how many of them `lose_commits` has broken.
        connections: how many connections clients have made.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._lose_commits = 0
        self._forwards_lost_ones = True
        self._cuts_then = False
        self.commit_seconds = 0.0
        self._may_commit = threading.Event()
        self._may_commit.set()
        self.commits = 0
        self.commits_lost = 0
        self.connections = 0
        self.port = 0
        self._listener: socket.socket | None = None
        self.restore()

    def restore(self) -> None:
        """Accept connections again, on the same port."""
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """Break all connections and refuse new ones."""
        self._stop_listening()
        self.cut_connections()

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):  # this wakes the accepting thread, which closes it
                listener.shutdown(socket.SHUT_RDWR)

    def cut_connections(self) -> None:
        """Break all connections; new ones are accepted."""
        with self._lock:
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def lose_commits(self, count: int, *, forward: bool, then_cut: bool = False) -> None:
        """Break the connection at each of the next commits.

        Args:
            count: how many commits.
            forward: whether the server gets the commit first; its answer is lost in any case.
            then_cut: whether to accept no connections from then on.
        """
        self._cuts_then = then_cut
        self._forwards_lost_ones = forward
        self._lose_commits = count

    def hold_commits(self) -> None:
        """Forward no commit until `release_commits`."""
        self._may_commit.clear()

    def release_commits(self) -> None:
        self._may_commit.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                listener.close()
                return
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self._target))
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets |= {client, server}
            for pair in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, upstream: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if upstream and _COMMIT in data:
                    self.commits += 1
                    if self._lose_commits:
                        self._lose_commits -= 1
                        self.commits_lost += 1
                        self._break_at_commit(data, source, sink)
                        return
                    time.sleep(self.commit_seconds)
                    self._may_commit.wait()
                sink.sendall(data)
        self._end(source, sink)

    def _break_at_commit(self, data: bytes, client: socket.socket, server: socket.socket) -> None:
        if self._cuts_then:
            self._stop_listening()
        client.shutdown(socket.SHUT_RDWR)  # first, so that no answer gets through
        if self._forwards_lost_ones:
            server.sendall(data)
            time.sleep(0.2)
        self._end(client, server)

    def _end(self, source: socket.socket, sink: socket.socket) -> None:
        """Break both directions; each socket is closed by the thread that reads it."""
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._sockets.discard(source)
        source.close()

    def close(self) -> None:
        self.release_commits()
        self.cut()


@contextlib.contextmanager
def proxy(target: int) -> Iterator[Proxy]:
    """Run a proxy while the ``with`` block runs."""
    made = Proxy(target)
    try:
        yield made
    finally:
        made.close()
