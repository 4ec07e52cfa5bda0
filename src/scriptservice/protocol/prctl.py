"""What a process asks of the kernel about itself; keeper and server call it before all else."""

import ctypes
import os
import signal
import socket
import struct

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot set process option {option}: {os.strerror(number)}")


def hide_from_ptrace() -> None:
    """Let no process of the same user read this one's memory, environment or descriptors.

    An ``exec`` undoes it, so every program of ours calls this first thing.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def die_with_parent(link: int) -> None:
    """Let the kernel end this process as soon as its parent is dead, whatever it is doing.

    Args:
        link: one end of a socket pair that the parent made: the kernel knows who that was.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with socket.socket(fileno=os.dup(link)) as end:
        made_by = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    parent, _, _ = struct.unpack("3i", made_by)
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(0)


def become_subreaper() -> None:
    """Become the parent of every orphan that descends from this process."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def forbid_new_privileges() -> None:
    """Make set-uid programs (sudo, ping) powerless here and in all descendants; irrevocable."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
