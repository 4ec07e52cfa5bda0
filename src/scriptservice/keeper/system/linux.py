"""The few kernel calls that the keeper needs and Python does not offer, and /proc in small pieces.

Called by every other module of the keeper; knows nothing of scripts or journals.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Iterator
from dataclasses import dataclass

# Fields of /proc/<pid>/stat, counted from the one behind the name.
_STATE, _PARENT, _SESSION, _FLAGS, _START_TICKS = 0, 1, 3, 6, 19
_START_CODE, _ENV_START, _ENV_END = 23, 47, 48
_DEAD = "ZXx"
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD

_ENVIRONMENT_LOOKS = 4

_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}

_libc = ctypes.CDLL(None, use_errno=True)
_INT = struct.Struct("i")
_ZERO = bytes(_INT.size)


def bytes_waiting(pipe: int) -> int:
    """Return how many bytes can be read from a pipe now, without taking any."""
    return int(_INT.unpack(fcntl.ioctl(pipe, termios.FIONREAD, _ZERO))[0])


@contextlib.contextmanager
def ignore_vanished() -> Iterator[None]:
    """Look at what may be gone already: that is no error, and what follows is left out.

    Raises:
        OSError: there was no descriptor or memory to look with, which says nothing of it.
    """
    try:
        yield
    except OSError as error:
        if is_resource_shortage(error):
            raise


def is_resource_shortage(error: OSError) -> bool:
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
        return self.state in _DEAD


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
        OSError: it cannot be said now, see `is_resource_shortage`.
    """
    try:
        fields = _stat_fields(f"/proc/{pid}/stat")
    except OSError as error:
        if is_resource_shortage(error):
            raise
        return None
    return ProcessStat(
        pid=pid,
        state=chr(fields[_STATE][0]),
        parent=int(fields[_PARENT]),
        session=int(fields[_SESSION]),
        start_ticks=int(fields[_START_TICKS]),
    )


def _stat_fields(path: str) -> list[bytes]:
    """Return the fields of a stat file that follow the name, see ``_STATE`` and the others."""
    text = read_file(path)
    # The name stands in parentheses and may itself hold spaces and parentheses.
    return text[text.rindex(b")") + 2 :].split()


def child_pids(pid: int) -> list[int]:
    """Return the ids of a process's direct children, of all its threads; empty when it is gone.

    Raises:
        OSError: it cannot be said now, see `is_resource_shortage`.
    """
    found: list[int] = []
    threads: list[str] = []
    with ignore_vanished():
        threads = os.listdir(f"/proc/{pid}/task")
    for thread in threads:
        with ignore_vanished():
            found += map(int, read_file(f"/proc/{pid}/task/{thread}/children").split())
    return found


@contextlib.contextmanager
def file_access_as_owner(pid: int) -> Iterator[None]:
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


def process_environment(pid: int) -> bytes | None:
    """Return a process's environment as it was at its last exec, empty if it has none.

    It is taken for empty, too, where we may not look. None for a process in the midst of an exec:
    its new memory has no environment yet, and whether it will have one cannot be said now.

    Raises:
        OSError: it cannot be said for want of our own, see `is_resource_shortage`.
    """
    found: bytes | None = b""
    with ignore_vanished():
        try:
            found = _environment(pid)
        except PermissionError:
            with file_access_as_owner(pid):
                found = _environment(pid)
    return found


def _environment(pid: int) -> bytes | None:
    place = f"/proc/{pid}"
    in_exec = False
    for _ in range(_ENVIRONMENT_LOOKS):
        found = b""
        # Its first thread may have ended and shows nothing of the memory that the others go on in.
        with contextlib.suppress(ProcessLookupError):
            found = read_file(f"{place}/environ")
        if found:
            return found
        # Between the two reads an exec may have come to its end.
        fields = _stat_fields(f"{place}/stat")
        if chr(fields[_STATE][0]) in _DEAD:
            others = [thread for thread in os.listdir(f"/proc/{pid}/task") if thread != str(pid)]
            if not others:
                return b""
            place = f"/proc/{pid}/task/{others[0]}"
        elif int(fields[_FLAGS]) & _KERNEL_THREAD or _has_none(fields):
            return b""
        in_exec |= _in_exec(fields)
    # One that is there and cannot be read, each time, was unmapped.
    return None if in_exec else b""


def _in_exec(fields: list[bytes]) -> bool:
    """Whether the environment is not complete yet, by the fields of a stat file."""
    # Where the code starts is the last thing that an exec says, after the environment.
    return fields[_START_CODE] == b"0"


def _has_none(fields: list[bytes]) -> bool:
    return not _in_exec(fields) and fields[_ENV_START] == fields[_ENV_END]


def environment_value(environment: bytes, name: bytes) -> bytes | None:
    """Return one variable of what `process_environment` returned, None if it has none.

    While bash reads its variables it has a zero in the place of one's equals sign.
    """
    for separator in (b"=", b"\0"):
        _, found, after = (b"\0" + environment).partition(b"\0" + name + separator)
        if found:
            return after.partition(b"\0")[0]
    return None


def signal_process(pid: int, start_ticks: int, number: int) -> bool:
    """Signal exactly the process that had this id and start, never one that reused the id.

    Returns:
        Whether it was there.

    Raises:
        OSError: it cannot be said now, see `is_resource_shortage`.
    """
    try:
        handle = os.pidfd_open(pid)
    except OSError as error:
        if is_resource_shortage(error):
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
