"""Starts a process in the keeper's own memory, for scripts of the keeper's own user.

``launcher/clone.c`` does it, which the keeper loads: the new process has the keeper's memory until
its exec, and everything else for itself. So a script costs one exec, and the keeper waits for none,
as it has to for the launcher's. ``spawn`` calls this; why so:
docs/adr/0017-scripts-begin-in-the-keepers-memory.md.
"""

import ctypes
import os
from typing import Any

from scriptservice.keeper.spawn.exec_failure import find_problem
from scriptservice.keeper.spawn.new_process import NewProcess
from scriptservice.keeper.system.keeper_log import logger

_LIBRARY = os.path.join(os.path.dirname(__file__), "clone.so")
_STACK_BYTES = 8192
_ALIGNMENT_BYTES = 16
_SPARE = 64
"""How many stacks are kept for the next processes: as many as begin at once."""


class _Request(ctypes.Structure):
    """``struct request`` of ``launcher/clone.c``."""

    _fields_ = (
        ("streams", ctypes.c_int * 3),
        ("script", ctypes.c_int),
        ("keeper", ctypes.c_int),
        ("status", ctypes.c_int),
        ("directory", ctypes.c_int),
        ("cgroup", ctypes.c_int),
        ("changes_limit", ctypes.c_int),
        ("files", ctypes.c_ulong * 2),
        ("programs", ctypes.POINTER(ctypes.c_char_p)),
        ("words", ctypes.POINTER(ctypes.c_char_p)),
        ("environment", ctypes.POINTER(ctypes.c_char_p)),
    )


class CloneMethod:
    """Starts processes by ``clone.so``.

    Args:
        library: path of it.

    Raises:
        OSError: it is not there or cannot be loaded.
        AttributeError: it is another library.
    """

    name = "clone"

    def __init__(self, library: str) -> None:
        # Not `CDLL`: it would let go of the interpreter for the call, which nobody else wants.
        self._begin = ctypes.PyDLL(library).begin_1
        self._begin.argtypes = (ctypes.POINTER(_Request), ctypes.c_void_p)
        self._begin.restype = ctypes.c_long
        self._keeper = os.getpid()
        # What a process reads and stands on until its exec, by the pipe that tells of that.
        self._in_use: dict[int, tuple[Any, ...]] = {}
        self._stacks: list[ctypes.Array[ctypes.c_char]] = []

    @classmethod
    def found(cls, trial: NewProcess, library: str = _LIBRARY) -> "CloneMethod | None":
        """Return this way if it is there and works, else None.

        Args:
            trial: what scripts get; its program has to be one that cannot be run.
            library: path of ``clone.so``.
        """
        try:
            way = cls(library)
        except (OSError, AttributeError) as error:
            if os.path.exists(library):
                logger.warning("clone_unusable", detail=str(error))
            return None
        problem = find_problem(way, trial)
        if problem is None:
            return way
        logger.warning("clone_unusable", detail=problem)
        return None

    def start(self, process: NewProcess) -> tuple[int, int]:
        """See `Way.start`; returns before the exec, so only the clone itself can fail."""
        programs = _programs(process)
        environment = [b"%s=%s" % variable for variable in process.environment.items()]
        if b"\0" in b"".join((*programs, *process.words, *environment)):
            message = "embedded null byte"
            raise ValueError(message)
        status, writer = os.pipe2(os.O_CLOEXEC)
        try:
            request = _Request(
                process.streams,
                process.script,
                self._keeper,
                writer,
                process.directory,
                -1 if process.cgroup is None else process.cgroup,
                process.files is not None,
                process.files or (0, 0),
                _strings(programs),
                _strings(process.words),
                _strings(environment),
            )
            stack = self._stacks.pop() if self._stacks else _new_stack()
            end = ctypes.addressof(stack) + _STACK_BYTES
            pid = self._begin(request, end - end % _ALIGNMENT_BYTES)
            if pid < 0:
                raise OSError(-pid, os.strerror(-pid))
        except BaseException:
            os.close(status)
            raise
        finally:
            os.close(writer)
        self._in_use[status] = (stack, request)
        return pid, status

    def settled(self, status: int) -> None:
        """See `Way.settled`."""
        stack, _ = self._in_use.pop(status)
        if len(self._stacks) < _SPARE:
            self._stacks.append(stack)


def _programs(process: NewProcess) -> list[bytes]:
    """Return the paths at which a process's program may be, in the order of its ``PATH``."""
    program = process.words[0]
    if b"/" in program:
        return [program]
    path = process.environment.get(b"PATH", os.defpath.encode())
    return [os.path.join(directory, program) for directory in path.split(b":")]


def _strings(values: list[bytes]) -> Any:
    """Return strings as C has them, with a zero at the end; they live as long as it does."""
    return (ctypes.c_char_p * (len(values) + 1))(*values)


def _new_stack() -> "ctypes.Array[ctypes.c_char]":
    return ctypes.create_string_buffer(_STACK_BYTES)
