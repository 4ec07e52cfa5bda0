"""Decides whether the disk of the data directory has enough free space for new commands."""

import os
import time

_CHECK_SECONDS = 0.5


def default_min_free_bytes(disk_bytes: int) -> int:
    """Return how many bytes of a file system must stay free by default: 5 %, within bounds.

    Args:
        disk_bytes: the size of the file system in bytes.
    """
    return min(max(disk_bytes // 20, 256 << 20), 10 << 30)


class DiskSpace:
    """Decides whether the disk has room for new commands.

    Args:
        data_dir: the data directory.
        min_free_bytes: free space below which there is no room; None for the default, see
            `default_min_free_bytes`.
    """

    def __init__(self, data_dir: str, min_free_bytes: int | None) -> None:
        self._data_dir = data_dir
        self._min_free_bytes = min_free_bytes
        self._checked_at = float("-inf")
        self._shortage: str | None = None

    def shortage(self) -> str | None:
        """Return a text for people that says how much space is missing; None if there is room.

        The file system is asked at most twice a second, so most calls cost almost nothing.
        """
        now = time.monotonic()
        if now - self._checked_at > _CHECK_SECONDS:
            self._checked_at = now
            self._shortage = self._find_shortage()
        return self._shortage

    def _find_shortage(self) -> str | None:
        disk = os.statvfs(self._data_dir)
        wanted = self._min_free_bytes
        if wanted is None:
            wanted = default_min_free_bytes(disk.f_blocks * disk.f_frsize)
        free = disk.f_bavail * disk.f_frsize
        if free >= wanted:
            return None
        return f"{free >> 20} MiB of disk space are free, and {wanted >> 20} MiB must stay free"
