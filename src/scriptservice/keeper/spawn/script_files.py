"""Nameless files that a script reads: its own text and its standard input."""

import fcntl
import os
from contextlib import suppress

_MEMORY_FILE_BYTES = 64 << 10
_ALL_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def input_file(content: bytes, directory: str, opened: list[int]) -> int:
    """Make a nameless file, and return a descriptor of the file with the file offset 0.

    If the content is larger than 64 KiB, the file is on the disk, so that large scripts do not fill
    the memory. If the disk has no room, the file is in memory.

    Args:
        content: the complete content of the file.
        directory: a directory on the disk.
        opened: gets every descriptor that the caller must close; the line that opens a descriptor
            also adds it to this list.
    """
    if len(content) > _MEMORY_FILE_BYTES:
        with suppress(OSError):
            return _disk_file(content, directory, opened)
    opened.append(os.memfd_create("script", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    file = opened[-1]
    _write_all(file, content)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, _ALL_SEALS)
    return file


def _disk_file(content: bytes, directory: str, opened: list[int]) -> int:
    opened.append(os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
    writer = opened[-1]
    _write_all(writer, content)
    os.fchmod(writer, 0o444)
    opened.append(os.open(f"/proc/self/fd/{writer}", os.O_RDONLY | os.O_CLOEXEC))
    return opened[-1]


def _write_all(file: int, content: bytes) -> None:
    """Write content without moving the file offset.

    The script's process shares the file offset with the keeper. Perl begins to read a script at
    this offset, so the offset must stay 0.
    """
    rest, offset = memoryview(content), 0
    while offset < len(content):
        offset += os.pwrite(file, rest[offset:], offset)
