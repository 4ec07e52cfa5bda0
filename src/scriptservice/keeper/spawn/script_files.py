"""Nameless files that a script reads: its own text and its standard input."""

import fcntl
import os
from contextlib import suppress

_MEMORY_FILE_BYTES = 64 << 10
_ALL_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def input_file(content: bytes, directory: str, opened: list[int]) -> int:
    """Return a descriptor of a nameless file with some content, open for reading from 0.

    Content of more than 64 KiB goes to the disk, if it has room, so that the memory in use does not
    grow with the size of scripts.

    Args:
        content: the complete content.
        directory: a directory on the disk.
        opened: every descriptor that the caller must close is added to this list.
    """
    if len(content) > _MEMORY_FILE_BYTES:
        with suppress(OSError):
            return _disk_file(content, directory, opened)
    file = os.memfd_create("script", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    opened.append(file)
    _write_all(file, content)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, _ALL_SEALS)
    return file


def _disk_file(content: bytes, directory: str, opened: list[int]) -> int:
    writer = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    opened.append(writer)
    _write_all(writer, content)
    os.fchmod(writer, 0o444)
    opened.append(os.open(f"/proc/self/fd/{writer}", os.O_RDONLY | os.O_CLOEXEC))
    return opened[-1]


def _write_all(file: int, content: bytes) -> None:
    """Write by offset, since perl reads a script from the shared file offset, which must stay 0."""
    rest, offset = memoryview(content), 0
    while offset < len(content):
        offset += os.pwrite(file, rest[offset:], offset)
