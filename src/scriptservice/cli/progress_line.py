"""Lines on a terminal that show what a verb waits for.

The package ``rich`` draws the lines and removes them again. The lines go to stderr, and only if
stderr is a terminal. ``rich`` is imported when the first line is drawn, so a quick verb does not
spend time on the import.
"""

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from scriptservice.cli.units import format_duration

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress

_SHOWN_AFTER_SECONDS = 0.5


def mebibytes(size: int) -> str:
    """Return a size in bytes for people: ``12.5 MiB``."""
    return f"{size / (1 << 20):.1f} MiB"


class ElapsedLine:
    """A line with the elapsed time, which is drawn again each second.

    Use this class as a context manager. Call `clear` before you write to the terminal.

    Args:
        text: what the verb waits for.

    Attributes:
        text: what the verb waits for.
        paused: whether drawing is paused. Set this to True while the script's last line of output
            is incomplete, because the drawn line would overwrite that output.
    """

    def __init__(self, text: str) -> None:
        self.paused = False
        self.text = text
        self._began = time.monotonic()
        self._live: Live | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._draw_each_second, daemon=True)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
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

    def clear(self) -> None:
        """Remove the line from the terminal."""
        with self._lock:
            live, self._live = self._live, None
            if live is not None:
                live.stop()

    def _draw_each_second(self) -> None:
        if self._ended.wait(1.0):
            return
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        console = Console(stderr=True)
        if console.is_dumb_terminal:
            return
        while True:
            with self._lock:
                if not self.paused and not self._ended.is_set():
                    if self._live is None:
                        self._live = Live(
                            console=console,
                            auto_refresh=False,
                            transient=True,
                            redirect_stdout=False,
                            redirect_stderr=False,
                        )
                        self._live.start()
                        # `start` hides the cursor. If this program were killed, the cursor would
                        # stay hidden.
                        console.show_cursor(show=True)
                    elapsed = format_duration(int(time.monotonic() - self._began))
                    self._live.update(Text(f"{self.text} {elapsed}", style="dim"), refresh=True)
            if self._ended.wait(1.0):
                return


class CopyProgress:
    """A line that shows how much of a copy is done, if the copy takes longer than half a second.

    Use this class as a context manager.
    """

    def __init__(self) -> None:
        self._shown_from = time.monotonic() + _SHOWN_AFTER_SECONDS
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, done: int, total: int) -> None:
        """Show how much has been copied.

        Args:
            done: bytes copied so far.
            total: bytes of the whole copy.
        """
        if self._progress is None:
            if time.monotonic() < self._shown_from or not sys.stderr.isatty():
                return
            self._progress = _start_progress()
        (task,) = self._progress.task_ids or [self._progress.add_task("")]
        sizes = f"{mebibytes(done)} of {mebibytes(total)}"
        self._progress.update(task, completed=done, total=total, description=sizes)


def _start_progress() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    progress = Progress(
        TextColumn("{task.percentage:>3.0f} %"),
        BarColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        transient=True,
    )
    progress.start()
    return progress
