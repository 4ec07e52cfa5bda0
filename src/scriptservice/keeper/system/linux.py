"""Kernel calls that the keeper needs and Python does not offer, and small parts of /proc.

Other modules of the keeper call this module, which knows nothing of scripts or journals.
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
from enum import Enum, auto

# Indices of fields in /proc/<pid>/stat; the field after the name has the index 0.
_STATE, _PARENT, _SESSION, _FLAGS, _START_TICKS = 0, 1, 3, 6, 19
_START_CODE, _ENV_START, _ENV_END = 23, 47, 48
_DEAD = "ZXx"
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD

_ENVIRONMENT_ATTEMPTS = 4

_SHORTAGE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}

_libc = ctypes.CDLL(None, use_errno=True)
_INT = struct.Struct("i")
# The arguments of capset: the version of the structures and this process; then three sets of 64
# bits, here all empty.
_CAPABILITY_HEADER = struct.pack("Ii", 0x20080522, 0)
_NO_CAPABILITIES = bytes(24)
_ZERO = bytes(_INT.size)


def bytes_waiting(pipe: int) -> int:
    """Return how many bytes can be read from a pipe now; none of them is read."""
    return int(_INT.unpack(fcntl.ioctl(pipe, termios.FIONREAD, _ZERO))[0])


@contextlib.contextmanager
def ignore_vanished() -> Iterator[None]:
    """End the block without an error if a file cannot be read or a process has vanished.

    Raises:
        OSError: the keeper is short of descriptors or memory, so the block has found out nothing.
    """
    try:
        yield
    except OSError as error:
        if is_resource_shortage(error):
            raise


def is_resource_shortage(error: OSError) -> bool:
    """Return whether an error means a shortage of descriptors or memory.

    Such an error tells nothing about the process or the file that was looked at.
    """
    return error.errno in _SHORTAGE


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """One process as ``/proc/<pid>/stat`` shows it.

    Attributes:
        pid: the process id.
        state: the state as one letter; ``Z`` and ``X`` mean that the process is dead.
        parent: the parent's process id.
        session: the id of the session.
        start_ticks: when the process started, in clock ticks from boot. The pid and this value
            together identify a process.
    """

    pid: int
    state: str
    parent: int
    session: int
    start_ticks: int

    @property
    def dead(self) -> bool:
        """Whether the first thread of the process has ended; other threads may still run."""
        return self.state in _DEAD


def read_file(path: str) -> bytes:
    """Return the content of a small file of /proc or /sys, by a single read if possible.

    Raises:
        OSError: the file does not exist or may not be read.
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
    """Return what /proc says about a process, None if no process has this id.

    Raises:
        OSError: the keeper is short of descriptors or memory, see `is_resource_shortage`.
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
    """Return the fields after the name in a stat file; ``_STATE`` and so on are their indices."""
    text = read_file(path)
    # The name is in parentheses and may itself contain spaces and parentheses.
    return text[text.rindex(b")") + 2 :].split()


def soft_cpu_limit(pid: int) -> int | None:
    """Return a process's soft limit of CPU time in seconds; None for no limit.

    A dead process has its limits until it is reaped. The result is None if they cannot be read.
    """
    try:
        lines = read_file(f"/proc/{pid}/limits").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, values = line.partition(b"Max cpu time")
        if not name and (words := values.split()) and words[0].isdigit():
            return int(words[0])
    return None


def child_pids(pid: int) -> list[int]:
    """Return the ids of all children of a process; empty if the process does not exist.

    Linux lists the children of each thread of the process separately.

    Raises:
        OSError: the keeper is short of descriptors or memory, see `is_resource_shortage`.
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
    """Access files as the user who owns a process, while the block runs.

    This gives access to the descriptors and the environment of the process in /proc. Root needs
    CAP_SYS_PTRACE to read them for another user's process, and containers do not have this
    capability. The user who owns the process needs no capability. Only the user of file accesses
    changes (``setfsuid``), so no other process gains the right to signal or trace the keeper.

    Raises:
        OSError: the process does not exist.
    """
    owner = os.stat(f"/proc/{pid}")
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    _libc.setfsgid(owner.st_gid)  # Only root may change the group, so change the group first.
    _libc.setfsuid(owner.st_uid)
    try:
        yield
    finally:
        _libc.setfsuid(0)
        _libc.setfsgid(os.getegid())


def process_environment(pid: int) -> bytes | None:
    """Return the environment variables that a process got at its last exec.

    Returns:
        The variables, each ended by a zero byte. Empty if the process has no variables or is gone,
        or if the keeper may not read them. None if the process is in the middle of an exec: its new
        memory has no environment yet, so the keeper cannot know the variables.

    Raises:
        OSError: the keeper is short of descriptors or memory, see `is_resource_shortage`.
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
    directory = f"/proc/{pid}"
    in_exec = False
    for _ in range(_ENVIRONMENT_ATTEMPTS):
        found = b""
        # If the first thread of the process has ended, its ``environ`` cannot be read, although
        # other threads may still use the same memory.
        with contextlib.suppress(ProcessLookupError):
            found = read_file(f"{directory}/environ")
        if found:
            return found
        # The file ``environ`` was empty. The file ``stat`` tells why, unless the process completed
        # an exec between the two reads. In that case the loop reads both files again.
        fields = _stat_fields(f"{directory}/stat")
        if chr(fields[_STATE][0]) in _DEAD:
            others = [thread for thread in os.listdir(f"/proc/{pid}/task") if thread != str(pid)]
            if not others:
                return b""
            directory = f"/proc/{pid}/task/{others[0]}"
        elif int(fields[_FLAGS]) & _KERNEL_THREAD or _has_no_environment(fields):
            return b""
        in_exec |= _in_exec(fields)
    # No attempt has found an environment. If no attempt has seen the process in an exec either, the
    # process has unmapped its environment.
    return None if in_exec else b""


def _in_exec(fields: list[bytes]) -> bool:
    """Return whether the fields of a stat file show that the process is in an exec."""
    # During an exec the start of the code is 0. The kernel sets it last, after the environment.
    return fields[_START_CODE] == b"0"


def _has_no_environment(fields: list[bytes]) -> bool:
    return not _in_exec(fields) and fields[_ENV_START] == fields[_ENV_END]


def environment_value(environment: bytes, name: bytes) -> bytes | None:
    """Return the value of a variable, None if the environment does not contain the variable.

    While bash starts, it reads the variables one by one. For a moment, the variable that bash reads
    has a zero byte in place of the equals sign. So both bytes are accepted after the name.

    Args:
        environment: what `process_environment` returned.
        name: the name of the variable.
    """
    for separator in (b"=", b"\0"):
        _, found, after = (b"\0" + environment).partition(b"\0" + name + separator)
        if found:
            return after.partition(b"\0")[0]
    return None


class SignalResult(Enum):
    """The result of sending a signal to one process.

    * SENT: the process got the signal.
    * GONE: the process does not exist any more.
    * FORBIDDEN: the process exists, and the kernel does not permit the keeper to signal it.
    * UNKNOWN: the keeper is short of descriptors or memory, so it could not look at the process.
    """

    SENT = auto()
    GONE = auto()
    FORBIDDEN = auto()
    UNKNOWN = auto()


def signal_process(pid: int, start_ticks: int, number: int) -> SignalResult:
    """Signal the process with this id and start, but never another process that reuses the id.

    This function raises no `OSError`; the result tells what has happened.

    Args:
        pid: the process id.
        start_ticks: the start of the process, see `ProcessStat`.
        number: the number of the signal.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        return _signal_result(error)
    try:
        # Compare the start only after the pidfd is open. If the process still has this id now, the
        # process also had the id when the pidfd was opened, so the pidfd refers to this process.
        stat = process_stat(pid)
        if stat is None or stat.start_ticks != start_ticks:
            return SignalResult.GONE
        signal.pidfd_send_signal(pidfd, number)
    except OSError as error:
        return _signal_result(error)
    finally:
        os.close(pidfd)
    return SignalResult.SENT


def _signal_result(error: OSError) -> SignalResult:
    if error.errno in (errno.ESRCH, errno.EINVAL):  # EINVAL: the id is now the id of a thread.
        return SignalResult.GONE
    return SignalResult.FORBIDDEN if error.errno == errno.EPERM else SignalResult.UNKNOWN


def process_user(pid: int) -> int | None:
    """Return the effective uid of a process, None if the process does not exist."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def all_pids() -> list[int]:
    """Return the ids of all processes that /proc shows."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def boot_id() -> str:
    """Return the kernel's random id of this boot."""
    return read_file("/proc/sys/kernel/random/boot_id").decode().strip()


def drop_capabilities() -> None:
    """Drop all capabilities of this process, also those that securebits keep when the user changes.

    Raises:
        OSError: the kernel has refused it.
    """
    if _libc.capset(_CAPABILITY_HEADER, _NO_CAPABILITIES) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot drop capabilities: {os.strerror(number)}")
