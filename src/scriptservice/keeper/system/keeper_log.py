"""The keeper's log: the standard library's, in the lines that the server writes too.

An event has a name and fields, as in the server; never what a submitter wrote.
"""

import logging

from scriptservice.protocol.log_lines import KEEPER_LOGGER, LogLineHandler, LogWriter


class Log:
    """The keeper's events; a thin layer over its logger, for fields.

    Args:
        name: of the logger.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, event: str, **fields: object) -> None:
        """Say what is worth knowing."""
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, **fields: object) -> None:
        """Say what should not be."""
        self._logger.warning(event, extra={"fields": fields})

    def error(self, event: str, **fields: object) -> None:
        """Say what went wrong."""
        self._logger.error(event, extra={"fields": fields})

    def exception(self, event: str, **fields: object) -> None:
        """Say what went wrong, with the trace of the exception at hand."""
        self._logger.error(event, exc_info=True, extra={"fields": fields})  # noqa: LOG014 - a caller's


logger = Log(KEEPER_LOGGER)


def start_logging(*, level: str, form: str, host: str) -> None:
    """Send the keeper's log to stderr.

    Args:
        level: debug, info, warning or error.
        form: ``json`` or ``console``.
        host: this machine's name among hosts.
    """
    keeper = logging.getLogger(KEEPER_LOGGER)
    keeper.addHandler(LogLineHandler(LogWriter("keeper", host, form)))
    keeper.propagate = False
    keeper.setLevel(level.upper())
