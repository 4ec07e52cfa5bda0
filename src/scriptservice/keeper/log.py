"""The keeper's log: the standard library's, on a stderr that may be gone or stuck.

A keeper must outlive its terminal and must never wait for whoever reads its stderr.
"""

import logging
import os
import select
from contextlib import suppress

_STDERR = 2

logger = logging.getLogger("scriptservice.keeper")


class _DroppingHandler(logging.Handler):
    """Writes a line to stderr if that is possible now, else drops it."""

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record).encode(errors="replace") + b"\n"
        # Not through sys.stderr: what it could not write it would try again at exit, and exit 120.
        with suppress(OSError, ValueError):
            if select.select([], [_STDERR], [], 0)[1]:
                # A pipe that is ready takes so much without waiting.
                os.write(_STDERR, line[: select.PIPE_BUF])


def start_logging(*, verbose: bool) -> None:
    """Send the keeper's log to stderr; with every script's changes when verbose."""
    handler = _DroppingHandler()
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s keeper: %(message)s", "%Y-%m-%dT%H:%M:%S")
    )
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
