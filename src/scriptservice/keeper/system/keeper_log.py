"""The keeper's log: the standard library's logging, in the format of the server's log.

An event has a name and fields. Never log script text, environment values, stdin or output.
"""

import logging

from scriptservice.protocol.log_lines import KEEPER_LOGGER, LogLineHandler, LogWriter


class KeeperLog:
    """Logs events with fields, as structlog does in the server.

    Args:
        name: name of the standard library's logger.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, event: str, **fields: object) -> None:
        """Log an event of normal work."""
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, **fields: object) -> None:
        """Log an event that should not happen but does not stop the keeper."""
        self._logger.warning(event, extra={"fields": fields})

    def error(self, event: str, **fields: object) -> None:
        """Log a failure."""
        self._logger.error(event, extra={"fields": fields})

    def exception(self, event: str, **fields: object) -> None:
        """Log a failure with the traceback of the current exception."""
        # Callers call this method while they handle an exception.
        self._logger.error(event, exc_info=True, extra={"fields": fields})  # noqa: LOG014


logger = KeeperLog(KEEPER_LOGGER)


def start_logging(*, level: str, form: str, host: str) -> None:
    """Send the keeper's log to stderr.

    Args:
        level: debug, info, warning or error.
        form: ``json`` or ``console``.
        host: the name of this host.
    """
    keeper = logging.getLogger(KEEPER_LOGGER)
    keeper.addHandler(LogLineHandler(LogWriter("keeper", host, form)))
    keeper.propagate = False
    keeper.setLevel(level.upper())
