"""Mounts that only one service sees, since it runs in a mount namespace of its own."""

import subprocess
import sys
from pathlib import Path

import psutil

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
