"""Finds the limit for which the kernel has ended a script's own process."""

import os
import signal
from collections.abc import Callable, Mapping
from resource import struct_rusage
from typing import Any

from scriptservice.keeper.spawn.process_limits import kill_cpu_seconds, whole_cpu_seconds

_TICK_SECONDS = 0.05
"""/proc counts CPU time in ticks of 10 ms, and rounds user and system time down separately."""


def exceeded_limit(
    limits: Mapping[str, Any],
    status: int,
    usage: struct_rusage,
    own_cpu_seconds: float | None,
    memory_kill: Callable[[], bool | None],
) -> dict[str, Any] | None:
    """Return the limit that ended a process, as the record EXITED has it; None if none did.

    A script may send these signals to itself, or lower its own limits. So the process must also
    have used that much.

    Args:
        limits: the command's limits, see `SpawnSpec`.
        status: the wait status of the process.
        usage: the resource usage of the process and of the children that it waited for.
        own_cpu_seconds: the CPU time of the process alone; None if it was not read.
        memory_kill: see `ProcessTree.memory_kill`; called only if the answer depends on it.
    """
    if not limits or not os.WIFSIGNALED(status):
        return None
    number = os.WTERMSIG(status)
    if (limit := limits.get("cpu_seconds")) is not None:
        if own_cpu_seconds is None and number == signal.SIGXCPU:
            own_cpu_seconds = usage.ru_utime + usage.ru_stime
        if _is_over(limit, number, own_cpu_seconds):
            return {"limit": "cpu_seconds", "value": limit}
    if number != signal.SIGKILL:
        return None
    is_own_limit = memory_kill()
    if is_own_limit is None:
        return None
    value = limits.get("memory_bytes") if is_own_limit else None
    return {"limit": "memory_bytes", "value": value}


def _is_over(limit: float, number: int, seconds: float | None) -> bool:
    if seconds is None or number not in (signal.SIGXCPU, signal.SIGKILL):
        return False
    is_kill = number == signal.SIGKILL
    allowed_seconds = kill_cpu_seconds(limit) if is_kill else whole_cpu_seconds(limit)
    return seconds >= allowed_seconds - _TICK_SECONDS
