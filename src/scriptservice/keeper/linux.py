"""The few kernel calls that the keeper needs and Python does not offer, and /proc in small pieces.

Called by every other module of the keeper; knows nothing of scripts or journals.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import termios
from collections.abc import Iterator
from dataclasses import dataclass

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}

_libc = ctypes.CDLL(None, use_errno=True)
_INT = struct.Struct("i")
_ZERO = bytes(_INT.size)


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


def bytes_waiting(pipe: int) -> int:
    """Return how many bytes can be read from a pipe now, without taking any."""
    return int(_INT.unpack(fcntl.ioctl(pipe, termios.FIONREAD, _ZERO))[0])


@contextlib.contextmanager
def unless_it_is_gone() -> Iterator[None]:
    """Look at what may be gone already: that is no error, and what follows is left out.

    Raises:
        OSError: there was no descriptor or memory to look with, which says nothing of it.
    """
    try:
        yield
    except OSError as error:
        if is_scarcity(error):
            raise


def is_scarcity(error: OSError) -> bool:
    """Whether an error is for want of descriptors or memory of our own."""
    return error.errno in _SCARCE


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """One process as ``/proc/<pid>/stat`` shows it.

    Attributes:
        pid: its process id.
        state: one letter; ``Z`` and ``X`` are dead.
        parent: its parent's process id.
        session: the id of its session.
        start_ticks: clock ticks from boot to its start; with the pid it names a process uniquely.
    """

    pid: int
    state: str
    parent: int
    session: int
    start_ticks: int

    @property
    def dead(self) -> bool:
        """Whether it has ended and only waits to be reaped."""
        return self.state in "ZXx"


def read_file(path: str) -> bytes:
    """Return a whole small file of /proc or /sys in one read where it fits.

    Raises:
        OSError: it is not there, or may not be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        first = os.read(descriptor, 65536)
        if len(first) < 4096:
            return first
        parts = [first]
        while part := os.read(descriptor, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def process_stat(pid: int) -> ProcessStat | None:
    """Return what /proc says of a process, or None when there is none of that id.

    Raises:
        OSError: it cannot be said now, see `is_scarcity`.
    """
    try:
        text = read_file(f"/proc/{pid}/stat")
    except OSError as error:
        if is_scarcity(error):
            raise
        return None
    # The name stands in parentheses and may itself hold spaces and parentheses.
    fields = text[text.rindex(b")") + 2 :].split()
    return ProcessStat(
        pid=pid,
        state=chr(fields[0][0]),
        parent=int(fields[1]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
    )


def child_pids(pid: int) -> list[int]:
    """Return the ids of a process's direct children, of all its threads; empty when it is gone.

    Raises:
        OSError: it cannot be said now, see `is_scarcity`.
    """
    found: list[int] = []
    threads: list[str] = []
    with unless_it_is_gone():
        threads = os.listdir(f"/proc/{pid}/task")
    for thread in threads:
        with unless_it_is_gone():
            found += map(int, read_file(f"/proc/{pid}/task/{thread}/children").split())
    return found


@contextlib.contextmanager
def seen_as_owner(pid: int) -> Iterator[None]:
    """Look at files as the owner of a process does: at its descriptors and environment.

    Root may look into another user's process only with CAP_SYS_PTRACE, which containers do not
    have; the same user may without. Only the user of file accesses changes (``setfsuid``), so
    that nobody can signal or trace us meanwhile who could not before.

    Raises:
        OSError: there is no such process.
    """
    owner = os.stat(f"/proc/{pid}")
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    _libc.setfsgid(owner.st_gid)  # before the user, who may not
    _libc.setfsuid(owner.st_uid)
    try:
        yield
    finally:
        _libc.setfsuid(0)
        _libc.setfsgid(os.getegid())


def environment(pid: int) -> bytes:
    """Return a process's environment as it was at its last exec, empty if it cannot be had.

    One in the midst of an exec has none for a moment.
    """
    found = b""
    with unless_it_is_gone():
        try:
            found = read_file(f"/proc/{pid}/environ")
        except PermissionError:
            with seen_as_owner(pid):
                found = read_file(f"/proc/{pid}/environ")
    return found


def environment_value(environment: bytes, name: bytes) -> bytes | None:
    """Return one variable of what `environment` returned, None if it has none."""
    prefix = name + b"="
    for entry in environment.split(b"\0"):
        if entry.startswith(prefix):
            return entry[len(prefix) :]
    return None


def signal_process(pid: int, start_ticks: int, number: int) -> bool:
    """Signal exactly the process that had this id and start, never one that reused the id.

    Returns:
        Whether it was there.

    Raises:
        OSError: it cannot be said now, see `is_scarcity`.
    """
    try:
        handle = os.pidfd_open(pid)
    except OSError as error:
        if is_scarcity(error):
            raise
        return False
    try:
        # The descriptor pins whoever has the id now; only then is its start compared.
        stat = process_stat(pid)
        if stat is None or stat.start_ticks != start_ticks:
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def all_pids() -> list[int]:
    """Return the ids of all processes that /proc shows."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def boot_id() -> str:
    """Return the kernel's random id of this boot."""
    return read_file("/proc/sys/kernel/random/boot_id").decode().strip()
