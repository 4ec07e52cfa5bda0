"""Sends this program's stdin to a command, so that every byte arrives once and in order.

Each request has the offset of its bytes. So a request whose answer was lost can be sent again.
"""

import os
import sys
import threading
import time
from contextlib import suppress

from scriptservice.client import Client
from scriptservice.client.problems import (
    ClientError,
    ConnectionLostError,
    NotRunningError,
    OffsetMismatchError,
    TooManyRequestsError,
)
from scriptservice.model import Status

READ_BYTES = 64 << 10
_PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Pauses between two questions whether a queued command has started; the last one repeats."""


def read_stdin() -> bytes:
    """Return the next bytes of this program's stdin; empty at its end, or if there is no stdin."""
    with suppress(OSError, ValueError):
        return os.read(sys.stdin.fileno(), READ_BYTES)
    return b""


def send_piece(
    client: Client, command_id: str, data: bytes, offset: int | None, *, close: bool
) -> int:
    """Send one piece of input. While the script does not read, try again.

    Args:
        client: reaches the service.
        command_id: id of the command.
        data: the bytes.
        offset: offset of the bytes; None to append them.
        close: whether the input ends after them.

    Returns:
        The offset of the next piece.

    Raises:
        ClientError: see `Client.send_input`.
    """
    while True:
        try:
            return client.send_input(command_id, data, offset=offset, close=close).offset
        except TooManyRequestsError:
            continue  # the client has waited before it raised this
        except OffsetMismatchError as error:
            # Another client has sent input too. Nothing of this piece was accepted.
            if offset is None:
                raise
            offset = int(error.members["offset"])


class InputFeeder(threading.Thread):
    """A thread that sends stdin to a new interactive command, and closes the input at the end.

    Args:
        url: URL of the service; the thread has a client of its own.
        command_id: id of the command.
        retry_seconds: how long to keep trying while the service does not answer.
    """

    def __init__(self, url: str, command_id: str, retry_seconds: float) -> None:
        # A daemon, because a read from a terminal cannot be ended.
        super().__init__(daemon=True)
        self._url = url
        self._command_id = command_id
        self._retry_seconds = retry_seconds

    def run(self) -> None:
        """Send stdin until its end, or until the command takes no more input."""
        try:
            with Client(self._url, retry_seconds=self._retry_seconds) as client:
                if self._has_started(client):
                    self._feed(client)
        except (NotRunningError, ConnectionLostError):
            pass  # the verb itself follows the command, and says how it ended
        except ClientError as error:
            print(f"scriptservice: {error}", file=sys.stderr)

    def _has_started(self, client: Client) -> bool:
        """Wait until the command is no longer queued; return whether it runs."""
        tries = 0
        while (status := client.get(self._command_id).status) is Status.QUEUED:
            time.sleep(_PAUSES_SECONDS[min(tries, len(_PAUSES_SECONDS) - 1)])
            tries += 1
        return not status.final

    def _feed(self, client: Client) -> None:
        offset = 0
        while data := read_stdin():
            offset = send_piece(client, self._command_id, data, offset, close=False)
        send_piece(client, self._command_id, b"", offset, close=True)
