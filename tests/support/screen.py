"""A terminal in memory: it shows what a full-screen program draws through an attached client."""

import threading
from collections.abc import Callable
from typing import Any

import pyte

from scriptservice import Attachment
from support.service import PATIENCE_SECONDS, eventually


class _Emulator(pyte.Screen):
    def select_graphic_rendition(self, *attributes: int, private: bool = False) -> Any:
        """Ignore a private sequence of xterm, which vim sends and the library does not know."""
        if not private:
            super().select_graphic_rendition(*attributes)


class Screen:
    """The screen of a terminal that an attachment feeds, in a thread of its own.

    Args:
        attachment: the attachment, which is connected.
        rows: number of lines.
        cols: number of characters in a line.

    Attributes:
        output: all bytes that have arrived.
    """

    def __init__(self, attachment: Attachment, rows: int, cols: int) -> None:
        self.attachment = attachment
        self.output = b""
        self._screen = _Emulator(cols, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def _feed(self) -> None:
        for data in self.attachment:
            with self._lock:
                self.output += data
                self._stream.feed(data)

    def lines(self) -> list[str]:
        """Return the lines of the screen as they are now."""
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    def resize(self, rows: int, cols: int) -> None:
        """Change the size of the screen and of the command's terminal."""
        with self._lock:
            self._screen.resize(rows, cols)
        self.attachment.resize(rows, cols)

    def wait_for(self, condition: Callable[[list[str]], object], what: str) -> list[str]:
        """Wait until a condition on the lines holds; return the lines."""

        def there() -> object:
            fed = self._thread.is_alive()
            found = condition(self.lines())
            assert fed or found, f"it has ended without {what}: {self.lines()}"
            return found

        eventually(there, lambda: f"{what}: {self.lines()}")
        return self.lines()

    def end(self) -> bytes:
        """Wait until the command has ended; return all output."""
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        return self.output
