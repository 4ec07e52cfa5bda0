"""A wall clock for one service that tests can set; the machine's clock does not change.

The service runs from an installation whose interpreter adds an offset, read from a file, to the
time of day. The monotonic clock and the kernel's timers do not change, as when somebody sets the
clock.
"""

import struct
import sys
from pathlib import Path

from support.upgrades import Installation

DAY_SECONDS = 24 * 3600

_HOOK = """
import mmap, os, struct, time
_file = os.open({path!r}, os.O_RDONLY)
_offset = mmap.mmap(_file, 8, access=mmap.ACCESS_READ)
os.close(_file)
_real = time.time_ns
time.time_ns = lambda: _real() + struct.unpack("<q", _offset[:8])[0]
time.time = lambda: time.time_ns() / 1e9
"""


class Clock:
    """The time of day in one installation.

    Args:
        installation: its programs use this clock if they are started after this call.
    """

    def __init__(self, installation: Installation) -> None:
        self._path = installation.directory / "clock"
        self.set(0)
        venv = Path(installation.python).parents[1]
        site = venv / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        (site / "clock_of_the_test.py").write_text(_HOOK.format(path=str(self._path)))
        (site / "clock_of_the_test.pth").write_text("import clock_of_the_test\n")

    def set(self, seconds: float) -> None:
        """Set the difference from the machine's clock, at once also for running programs."""
        with self._path.open("r+b" if self._path.exists() else "w+b") as file:
            file.write(struct.pack("<q", round(seconds * 1e9)))
