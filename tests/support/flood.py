"""Clients without a token that send endlessly, in a process of their own, within limits.

``python -m support.flood PORT KIND…`` opens one connection for each kind, and again whenever the
service closes it, until stdin ends or `MAX_SECONDS` have passed.
"""

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

MAX_SECONDS = 120
MAX_BYTES = 1 << 30
"""How much one client sends at most."""

_POST = b"POST /v1/commands HTTP/1.1\r\nHost: localhost\r\n"
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"


def _repeated(first: bytes, more: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.chain([first], itertools.repeat(more))


KINDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "header value": _repeated(_POST + b"X-Endless: ", b"x" * 65536),
    "header name": _repeated(_POST, b"x" * 65536),
    "header lines": _repeated(_POST, b"X-More: 1\r\n" * 6000),
    "target": _repeated(b"GET /", b"x" * 65536),
    "empty lines": _repeated(b"", b"\r\n" * 32768),
    "trailers": _repeated(_CHUNKED + b"4\r\ntrue\r\n0\r\n", b"X-More: 1\r\n" * 6000),
    "trailer value": _repeated(_CHUNKED + b"4\r\ntrue\r\n0\r\nX-Endless: ", b"x" * 65536),
    "extension": _repeated(_CHUNKED + b"4;", b"x" * 65536),
    "small chunks": _repeated(_CHUNKED, b"1\r\nx\r\n" * 10000),
    "body": _repeated(_POST + b"Content-Length: 1000000000000\r\n\r\n", b"x" * 65536),
    "byte by byte": _repeated(_POST + b"X-Endless: ", b"x"),
    "requests ahead": _repeated(b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1700),
}


def _send(port: int, kind: str, ended: threading.Event) -> None:
    sent, first = 0, True
    while not ended.is_set() and sent < MAX_BYTES:
        with contextlib.suppress(OSError), socket.socket() as client:
            client.settimeout(5)
            client.connect(("127.0.0.1", port))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in KINDS[kind]():
                client.sendall(piece)
                sent += len(piece)
                if first:
                    first = False
                    os.write(1, b".")
                if ended.is_set() or sent > MAX_BYTES:
                    break


def main(port: int, kinds: list[str]) -> None:
    """Send until stdin ends, or until the limits are reached."""
    os.nice(19)  # real clients run on other machines and take no CPU time from the service
    ended = threading.Event()
    senders = [threading.Thread(target=_send, args=(port, kind, ended)) for kind in kinds]
    for each in senders:
        each.start()
    watch = threading.Thread(target=sys.stdin.read, daemon=True)
    watch.start()
    watch.join(MAX_SECONDS)
    ended.set()
    for each in senders:
        each.join()


@contextlib.contextmanager
def flood(port: int, kinds: list[str]) -> Iterator[None]:
    """Let one client of each kind send while the ``with`` block runs."""
    tests = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "support.flood", str(port), *kinds],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": tests},
    )
    assert process.stdout is not None
    try:
        for _ in kinds:
            assert process.stdout.read(1) == b".", "the flood ended before it began"
        yield
        assert process.poll() is None, "the flood ended too early"
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
