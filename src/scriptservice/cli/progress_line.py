"""The line that shows, while ``run`` waits on a terminal, what it waits for and how long."""

import sys
import threading
import time
from types import TracebackType
from typing import Self

_ERASE = "\r\x1b[2K"


def duration(seconds: float) -> str:
    """Return a time for people: ``02:14``, ``1:05:00``, ``2d 03:00:00``."""
    whole = int(seconds)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour:02}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


class ElapsedLine:
    """Draws itself on stderr each second, if that is a terminal; never in the output.

    Args:
        text: what is waited for.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.quiet = False
        self._shown = sys.stderr.isatty()
        self._began = time.monotonic()
        self._drawn = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        if self._shown:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self.clear()

    def _tick(self) -> None:
        while not self._ended.wait(1.0):
            with self._lock:
                # A line that the script has not finished is its own.
                if not self.quiet and not self._ended.is_set():
                    elapsed = duration(time.monotonic() - self._began)
                    sys.stderr.write(f"{_ERASE}\x1b[2m{self.text} {elapsed}\x1b[0m")
                    sys.stderr.flush()
                    self._drawn = True

    def clear(self) -> None:
        """Take the line away, before output is written."""
        with self._lock:
            if self._drawn:
                sys.stderr.write(_ERASE)
                sys.stderr.flush()
                self._drawn = False
