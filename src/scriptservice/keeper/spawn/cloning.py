"""Starts a process in the keeper's own memory, for scripts of the keeper's own user.

The keeper loads ``clone.so``, which is built from ``launcher/clone.c``. The new process shares only
the keeper's memory, and only until its exec. This method needs one exec for each script, and the
keeper does not wait for that exec. The ``launcher`` method needs two execs, and the keeper must
wait for the first exec, which starts the launcher. See
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
_SPARE_STACKS = 64
"""Maximum number of unused stacks to keep: the number of processes that may start at a time."""


class _Request(ctypes.Structure):
    """The ``struct request`` of ``launcher/clone.c``; both must have the same fields."""

    _fields_ = (
        ("streams", ctypes.c_int * 3),
        ("script", ctypes.c_int),
        ("keeper_pid", ctypes.c_int),
        ("status", ctypes.c_int),
        ("directory", ctypes.c_int),
        ("cgroup", ctypes.c_int),
        ("changes_limits", ctypes.c_int),
        ("descriptor_limits", ctypes.c_ulong * 2),
        ("programs", ctypes.POINTER(ctypes.c_char_p)),
        ("argv", ctypes.POINTER(ctypes.c_char_p)),
        ("environment", ctypes.POINTER(ctypes.c_char_p)),
    )


class CloneMethod:
    """Starts processes with ``clone.so``.

    Args:
        library: the path of ``clone.so``.

    Raises:
        OSError: the library does not exist or cannot be loaded.
        AttributeError: the file is another library, or belongs to another release.
    """

    name = "clone"

    def __init__(self, library: str) -> None:
        # Unlike `PyDLL`, `CDLL` would release the GIL for each call. That would be useless, because
        # the keeper has only one thread.
        self._begin = ctypes.PyDLL(library).begin_1
        self._begin.argtypes = (ctypes.POINTER(_Request), ctypes.c_void_p)
        self._begin.restype = ctypes.c_long
        self._keeper_pid = os.getpid()
        # This has the stack and the request of each process that has not reached its exec. Both
        # must stay in memory until the exec. The keys are the processes' status descriptors.
        self._in_use: dict[int, tuple[Any, ...]] = {}
        self._stacks: list[ctypes.Array[ctypes.c_char]] = []

    @classmethod
    def probe(cls, trial: NewProcess, library: str = _LIBRARY) -> "CloneMethod | None":
        """Return this method if ``clone.so`` is installed and works, else None.

        Args:
            trial: a process like that of a script, but with a program that cannot be run.
            library: the path of ``clone.so``.
        """
        try:
            method = cls(library)
        except (OSError, AttributeError) as error:
            if os.path.exists(library):
                logger.warning("clone_unusable", detail=str(error))
            return None
        problem = find_problem(method, trial)
        if problem is None:
            return method
        logger.warning("clone_unusable", detail=problem)
        return None

    def start(self, process: NewProcess) -> tuple[int, int]:
        """See `SpawnMethod.start`. This method returns before the exec of the script's program."""
        programs = _programs(process)
        environment = [b"%s=%s" % variable for variable in process.environment.items()]
        if b"\0" in b"".join((*programs, *process.argv, *environment)):
            message = "embedded null byte"
            raise ValueError(message)
        status, writer = os.pipe2(os.O_CLOEXEC)
        try:
            request = _Request(
                process.streams,
                process.script,
                self._keeper_pid,
                writer,
                process.directory,
                -1 if process.cgroup is None else process.cgroup,
                process.descriptor_limits is not None,
                process.descriptor_limits or (0, 0),
                _c_strings(programs),
                _c_strings(process.argv),
                _c_strings(environment),
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

    def release(self, status: int) -> None:
        """See `SpawnMethod.release`."""
        stack, _ = self._in_use.pop(status)
        if len(self._stacks) < _SPARE_STACKS:
            self._stacks.append(stack)


def _programs(process: NewProcess) -> list[bytes]:
    """Return the paths where the program may be, in the order of the process's ``PATH``."""
    program = process.argv[0]
    if b"/" in program:
        return [program]
    path = process.environment.get(b"PATH", os.defpath.encode())
    return [os.path.join(directory, program) for directory in path.split(b":")]


def _c_strings(values: list[bytes]) -> Any:
    """Return an array of C strings that ends with a null pointer.

    While the array exists, Python does not free the strings.
    """
    return (ctypes.c_char_p * (len(values) + 1))(*values)


def _new_stack() -> "ctypes.Array[ctypes.c_char]":
    return ctypes.create_string_buffer(_STACK_BYTES)
