"""The keeper's log: the standard library's, in the lines that the server writes too.

An event has a name and fields, as in the server; never what a submitter wrote.
"""

import logging
import traceback
from typing import Any

from scriptservice.keeper.journal import now_us
from scriptservice.keeper.lines import Lines


class LineHandler(logging.Handler):
    """Writes records of the standard library's logging as lines.

    Args:
        lines: makes and writes them.
    """

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        if record.name != _KEEPER:
            fields["logger"] = record.name
        if record.exc_info and record.exc_info[0]:
            fields["exception"] = "".join(traceback.format_exception(*record.exc_info))
        at = now_us()
        level = _LEVELS.get(record.levelno, "error")
        self._lines.write(at, [self._lines.line(at, level, record.getMessage(), fields)])


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


_KEEPER = "scriptservice.keeper"
_LEVELS = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
}

logger = Log(_KEEPER)


def start_logging(*, level: str, form: str, host: str) -> None:
    """Send the keeper's log to stderr.

    Args:
        level: debug, info, warning or error.
        form: ``json`` or ``console``.
        host: this machine's name among hosts.
    """
    keeper = logging.getLogger(_KEEPER)
    keeper.addHandler(LineHandler(Lines("keeper", host, form)))
    keeper.propagate = False
    keeper.setLevel(level.upper())
