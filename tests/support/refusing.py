"""Lets the kernel answer a system call as it would elsewhere: a filter for one new process."""

import ctypes
import platform
import struct
from collections.abc import Callable

NUMBERS = {
    "x86_64": {
        "capset": 126, "close_range": 436, "fcntl": 72, "prctl": 157, "rt_sigprocmask": 14,
        "setresgid": 119, "setresuid": 117, "setsid": 112,
    },
    "aarch64": {
        "capset": 91, "close_range": 436, "fcntl": 25, "prctl": 167, "rt_sigprocmask": 135,
        "setresgid": 149, "setresuid": 147, "setsid": 157,
    },
}  # fmt: skip

_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_FIRST_ARGUMENT = 16
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_libc = ctypes.CDLL(None, use_errno=True)


def refusing(**answers: int | tuple[int, int]) -> Callable[[], None]:
    """Return what a new process calls between fork and exec.

    Args:
        answers: by system call, the errno that it answers, 0 to do nothing and say that it was
            done; with a second number only where the first argument is that.
    """
    numbers = NUMBERS[platform.machine()]
    code = b""
    for name, answer in answers.items():
        error, argument = answer if isinstance(answer, tuple) else (answer, None)
        narrower = 0 if argument is None else 2
        code += _step(_LOAD, 0) + _step(_IF_EQUAL, numbers[name], no=1 + narrower)
        if argument is not None:
            code += _step(_LOAD, _FIRST_ARGUMENT) + _step(_IF_EQUAL, argument, no=1)
        code += _step(_RETURN, _ERRNO | error)
    code += _step(_RETURN, _ALLOW)
    steps = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(steps))

    def refuse() -> None:
        if _libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, program) != 0 or not steps:
            raise OSError(ctypes.get_errno(), "cannot filter")

    return refuse


def _step(code: int, value: int, *, no: int = 0) -> bytes:
    """Return one instruction; ``no``: how many to leave out where it is not equal."""
    return struct.pack("HBBI", code, 0, no, value)
