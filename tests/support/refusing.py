"""A seccomp filter for one new process: system calls answer as on another kernel or container."""

import ctypes
import platform
import struct
from collections.abc import Callable

NUMBERS = {
    "x86_64": {
        "capset": 126, "close_range": 436, "fcntl": 72, "getdents64": 217, "prctl": 157,
        "rt_sigprocmask": 14, "setresgid": 119, "setresuid": 117, "setsid": 112,
    },
    "aarch64": {
        "capset": 91, "close_range": 436, "fcntl": 25, "getdents64": 61, "prctl": 167,
        "rt_sigprocmask": 135, "setresgid": 149, "setresuid": 147, "setsid": 157,
    },
}  # fmt: skip

_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_FIRST_ARGUMENT = 16
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_libc = ctypes.CDLL(None, use_errno=True)


def refusing(**answers: int | tuple[int, int]) -> Callable[[], None]:
    """Return a function that a new process calls between fork and exec (``preexec_fn``).

    Args:
        answers: by name of the system call, the errno that it returns; 0 lets it do nothing and
            succeed. A pair of errno and number applies only to calls with that first argument.
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
    """Return one BPF instruction; ``no`` is how many to skip if a comparison is false."""
    return struct.pack("HBBI", code, 0, no, value)
