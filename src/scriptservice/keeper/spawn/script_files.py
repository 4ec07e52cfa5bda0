"""Nameless files for what a script reads: itself, and its standard input. ``spawn`` calls this."""

import fcntl
import os
from contextlib import suppress

_MEMORY_FILE_BYTES = 64 << 10
_ALL_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def input_file(content: bytes, directory: str, opened: list[int]) -> int:
    """Return a descriptor, open for reading from 0, of a nameless file with the content.

    What is large goes to the disk, if it has room: memory must not grow with scripts.

    Args:
        content: all of it.
        directory: where on the disk.
        opened: gets every descriptor that is to be closed afterwards.
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
    """Write it all at its place; by offset, since perl reads from the shared one, from 0 on."""
    rest, offset = memoryview(content), 0
    while offset < len(content):
        offset += os.pwrite(file, rest[offset:], offset)
