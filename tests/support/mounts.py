"""Mounts: those that only one service sees, in its own mount namespace, and one that hangs."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from support.needs import require

OWN_MOUNT_NAMESPACE = ("unshare", "--mount", "--propagation", "private", "--")
"""The command that starts a service in such a namespace."""

# This enters the namespace and runs no program there, since the hidden directory may contain it.
_INSIDE = """
import ctypes, os, sys
pid, what, *words = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
NEWNS, BIND, DETACH = 0x20000, 0x1000, 2
root = os.open(f"/proc/{pid}/root", os.O_RDONLY)
if libc.setns(os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY), NEWNS):
    raise OSError(ctypes.get_errno(), "setns")
# The tests may themselves live in a changed root, which setns leaves.
os.fchdir(root)
os.chroot(".")
paths = [word.encode() for word in words]
if what == "hide":
    failed = libc.mount(paths[0], paths[1], None, BIND, None)
else:
    failed = libc.umount2(paths[0], DETACH)
if failed:
    raise OSError(ctypes.get_errno(), what)
"""


def _inside(process: psutil.Process, *words: str) -> None:
    command = [sys.executable, "-I", "-c", _INSIDE, str(process.pid), *words]
    subprocess.run(command, check=True)


def hide(process: psutil.Process, directory: Path, empty: Path) -> None:
    """Hide a directory behind an empty one, for all processes in a process's mount namespace."""
    _inside(process, "hide", str(empty), str(directory))


def show(process: psutil.Process, directory: Path) -> None:
    """Undo `hide`."""
    _inside(process, "show", str(directory))


_MNT_FORCE, _MNT_DETACH = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def hanging_directory(path: Path) -> Iterator[Path]:
    """Mount a file system that never answers, like that of a network server that is away.

    A process that enters the directory waits until the block ends, or until it is killed.

    Args:
        path: the directory to make.
    """
    require("fuse")
    path.mkdir()
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
        if _libc.mount(b"hangs", bytes(path), b"fuse", 0, options.encode()) != 0:
            raise OSError(ctypes.get_errno(), "cannot mount", str(path))
        try:
            yield path
        finally:
            # Without a look at the mount, which would wait. Whoever waits there gets an error.
            _libc.umount2(bytes(path), _MNT_FORCE | _MNT_DETACH)
    finally:
        os.close(device)
    path.rmdir()
