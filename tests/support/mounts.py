"""Mounts that only one service sees: it lives in a mount namespace of its own."""

import subprocess
import sys
from pathlib import Path

import psutil

APART = ("unshare", "--mount", "--propagation", "private", "--")
"""What a service is started under, to have one."""

# No program is run inside: what is being hidden may be the one.
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
    """Let a process, and who is in its namespace, see an empty directory in place of another."""
    _inside(process, "hide", str(empty), str(directory))


def show(process: psutil.Process, directory: Path) -> None:
    """Undo `hide`."""
    _inside(process, "show", str(directory))
