"""The keeper's log: the standard library's, on a stderr that may be gone or stuck.

A keeper must outlive its terminal and must never wait for whoever reads its stderr.
"""

import logging
import select
import sys
from contextlib import suppress

logger = logging.getLogger("scriptservice.keeper")


class _DroppingHandler(logging.Handler):
    """Writes a line to stderr if that is possible now, else drops it."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):
            if sys.stderr is not None and select.select([], [sys.stderr], [], 0)[1]:
                sys.stderr.write(self.format(record) + "\n")
                sys.stderr.flush()


def start_logging(*, verbose: bool) -> None:
    """Send the keeper's log to stderr; with every script's changes when verbose."""
    handler = _DroppingHandler()
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s keeper: %(message)s", "%Y-%m-%dT%H:%M:%S")
    )
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
