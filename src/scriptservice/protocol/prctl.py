"""Sets options that the kernel keeps for each process.

The keeper and the server set these options when they start.
"""

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
    """Hide this process's memory, environment and descriptors from processes of the same user.

    An exec resets this option, so each program of the service calls this function first.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def die_with_parent(link: int) -> None:
    """Have the kernel kill this process as soon as its parent dies.

    Args:
        link: a descriptor of one end of a socket pair that the parent made. The kernel tells which
            process made the pair, and that process is the parent.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with socket.socket(fileno=os.dup(link)) as end:
        made_by = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    parent, _, _ = struct.unpack("3i", made_by)
    if os.getppid() != parent:  # the parent died before the option was set
        os._exit(0)


def signal_when_parent_dies(number: int) -> None:
    """Have the kernel send this process a signal when its parent dies.

    A change of user resets this option; an exec keeps it.

    Args:
        number: the number of the signal, 0 for none.
    """
    _prctl(_PR_SET_PDEATHSIG, number)


def become_subreaper() -> None:
    """Become the parent of every descendant whose own parent dies."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def forbid_new_privileges() -> None:
    """Keep this process and its descendants from getting more rights by a set-uid program.

    Examples of such programs are sudo and ping. A process cannot undo this.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
