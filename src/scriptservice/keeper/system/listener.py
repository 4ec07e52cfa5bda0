"""The listening socket, bound by the keeper so that it outlives every server."""

import errno
import socket
import time
from typing import Any

BACKLOG = 4096
ADDRESS_IN_USE_SECONDS = 2.0
"""How long the keeper waits for an address that is in use.

If another keeper was just killed, its server may still hold the address for a moment.
"""


class ListenError(Exception):
    """Listening on an address failed; the message names the address and the reason."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket.

    Args:
        host: a numeric address or a name.
        port: the port number; with 0 the kernel chooses one.

    Raises:
        ListenError: the address is in use, does not belong to this machine, or is not permitted.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _bind(listener, address)
        listener.listen(BACKLOG)
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise ListenError(message) from error
    return listener


def _bind(listener: socket.socket, address: Any) -> None:
    """Bind the socket; while the address is in use, try again for a short time.

    Raises:
        OSError: the address cannot be bound.
    """
    deadline = time.monotonic() + ADDRESS_IN_USE_SECONDS
    while True:
        try:
            listener.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
            time.sleep(ADDRESS_IN_USE_SECONDS / 20)
        else:
            return
