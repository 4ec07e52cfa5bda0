"""The resource limits that a script's process sets before its exec."""

import math
import resource
from collections.abc import Mapping
from typing import Any

_KILL_SECONDS = 1


def resource_limits(
    limits: Mapping[str, Any], descriptors: tuple[int, int], *, restores_descriptors: bool
) -> tuple[tuple[int, int, int], ...]:
    """Return the resource limits of a script's process, as `NewProcess` has them.

    No limit is above the hard limit that the service was started with, since only root could raise
    that one.

    Args:
        limits: the command's limits, see `SpawnSpec`.
        descriptors: the soft and the hard limit of descriptors that the service was started with.
        restores_descriptors: whether the keeper has raised its own limit of descriptors, so that
            the process has to set the former one again.
    """
    found: list[tuple[int, int, int]] = []
    if (open_files := limits.get("open_files")) is not None:
        most = _at_most(open_files, descriptors[1])
        found.append((resource.RLIMIT_NOFILE, most, most))
    elif restores_descriptors:
        found.append((resource.RLIMIT_NOFILE, *descriptors))
    if (seconds := limits.get("cpu_seconds")) is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        kill = _at_most(kill_cpu_seconds(seconds), hard)
        found.append((resource.RLIMIT_CPU, min(whole_cpu_seconds(seconds), kill), kill))
    return tuple(found)


def whole_cpu_seconds(cpu_seconds: float) -> int:
    """Return a limit of CPU time as the kernel counts it: in whole seconds, rounded up."""
    return math.ceil(cpu_seconds)


def kill_cpu_seconds(cpu_seconds: float) -> int:
    """Return the CPU time at which the kernel kills a process that ignores SIGXCPU."""
    return whole_cpu_seconds(cpu_seconds) + _KILL_SECONDS


def _at_most(value: int, hard: int) -> int:
    return value if hard == resource.RLIM_INFINITY else min(value, hard)
