"""Small file systems that tests fill to the last byte, empty, or make read-only; needs root."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.needs import require


@contextlib.contextmanager
def small_disk(place: Path, size: int = 64 << 20) -> Iterator[Path]:
    """Mount a file system of ``size`` bytes on a directory, which is created if need be."""
    require("mounts")
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)], check=True)
    try:
        place.chmod(0o755)
        yield place
    finally:
        # A server may still be closing its files, and this process may hold an open gate there:
        # the file system goes with the last of them.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Fill a disk to the last byte; return the file whose deletion frees the space."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 20)):
            pass
        while file.write(bytes(1 << 12)):
            pass
    assert os.statvfs(disk).f_bavail == 0
    return ballast


def fill_until(disk: Path, free_bytes: int) -> Path:
    """Fill a disk until so many bytes are free; return the file whose deletion frees the space."""
    room = os.statvfs(disk)
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - free_bytes)
    return ballast


def remount(disk: Path, how: str) -> bool:
    """Make a disk read-only (``ro``) or writable (``rw``); return whether that succeeded.

    It fails while a process has a file open for writing.
    """
    done = subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=False)
    return done.returncode == 0
