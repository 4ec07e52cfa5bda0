"""Finds the limit for which the kernel has ended a script's own process."""

import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from scriptservice.keeper.spawn.process_limits import whole_cpu_seconds


def exceeded_limit(
    limits: Mapping[str, Any],
    status: int,
    soft_cpu_seconds: int | None,
    memory_kill: Callable[[], bool | None],
) -> dict[str, Any] | None:
    """Return the limit that ended a process, as the record EXITED has it; None if none did.

    The signal alone does not tell, since a script may send any signal to itself. When the kernel
    sends SIGXCPU, it raises the soft limit of CPU time by a second, so the limit of the dead
    process tells whether the kernel has sent it.

    Args:
        limits: the command's limits, see `SpawnSpec`.
        status: the wait status of the process.
        soft_cpu_seconds: the soft limit of CPU time that the process had when it died; None if it
            was not read.
        memory_kill: see `ProcessTree.memory_kill`; called only if the answer depends on it.
    """
    if not limits or not os.WIFSIGNALED(status):
        return None
    number = os.WTERMSIG(status)
    cpu_seconds = limits.get("cpu_seconds")
    if cpu_seconds is not None and soft_cpu_seconds is not None:
        was_raised = soft_cpu_seconds > whole_cpu_seconds(cpu_seconds)
        if was_raised and number in (signal.SIGXCPU, signal.SIGKILL):
            return {"limit": "cpu_seconds", "value": cpu_seconds}
    if number != signal.SIGKILL:
        return None
    is_own_limit = memory_kill()
    if is_own_limit is None:
        return None
    value = limits.get("memory_bytes") if is_own_limit else None
    return {"limit": "memory_bytes", "value": value}
