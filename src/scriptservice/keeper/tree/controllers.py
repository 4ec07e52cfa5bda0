"""Limits of whole process trees: the cgroup controllers ``memory`` and ``pids``.

A controller works in the cgroups below a cgroup that has enabled it, and a cgroup with processes of
its own cannot enable one. So the keeper and the server move to a cgroup ``service`` below the one
in which the keeper was started. Beside it are two directories with a cgroup for each command::

    the unit                              enables the controllers
    ├── service                           keeper and server
    ├── scriptservice-PID-START           commands without such limits
    └── scriptservice-PID-START.limited   commands with limits; enables the controllers

Commands without limits have their own directory, since a cgroup with the memory controller costs
the kernel much more. ``cgroup`` uses this module.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.system.linux import child_pids, read_file
from scriptservice.protocol.frames import TREE_LIMITS

LEAF = "service"
_SUFFIX = ".limited"
_CONTROLLERS = dict(zip(TREE_LIMITS, ("memory", "pids"), strict=True))
_TRIAL = dict.fromkeys(TREE_LIMITS, 1 << 20)


def limited_directory(base: str) -> str:
    """Return the directory with the cgroups of the commands that have limits.

    Args:
        base: the directory with the cgroups of all other commands of the same keeper.
    """
    return base + _SUFFIX


def enable_controllers(base: str, remove: Callable[[str], None]) -> tuple[str, ...]:
    """Make the directory for commands with limits, if the controllers can be used here.

    If a step fails, all steps before it are undone. After an upgrade, nothing is left to do if the
    keeper's previous program has done it.

    Args:
        base: the directory of the keeper's cgroups.
        remove: removes a cgroup if it has no process.

    Returns:
        The names of the limits that can be set.
    """
    own, limited = os.path.dirname(base), limited_directory(base)
    if enabled := _usable(limited, "cgroup.subtree_control"):
        return enabled
    wanted = _usable(own, "cgroup.controllers")
    if not wanted:
        return ()
    with ExitStack() as undo:
        try:
            enter_leaf(own, remove, undo)
            _enable(own, wanted)
            undo.callback(_disable, own, wanted)
            with suppress(FileExistsError):
                os.mkdir(limited)
            undo.callback(remove, limited)
            _enable(limited, wanted)
            _try_limits(limited, wanted, undo, remove)
        except OSError as error:
            logger.info("no_tree_limits", detail=f"the controllers cannot be enabled: {error}")
            return ()
        undo.pop_all()
    remove(f"{limited}/trial")
    return wanted


def enter_leaf(own: str, remove: Callable[[str], None], undo: ExitStack) -> None:
    """Move the keeper and its children from a cgroup to the cgroup ``service`` below it.

    Args:
        own: the directory of the cgroup, which has no other processes.
        remove: removes a cgroup if it has no process.
        undo: moves the processes back when it is closed.

    Raises:
        OSError: other processes are in the cgroup, or the kernel has refused a step.
    """
    leaf = os.path.join(own, LEAF)
    movable = {os.getpid(), *child_pids(os.getpid())}
    members = {int(pid) for pid in read_file(f"{own}/cgroup.procs").split()}
    if others := members - movable:
        message = f"process {min(others)} in the same cgroup does not belong to the service"
        raise OSError(message)
    with suppress(FileExistsError):
        os.mkdir(leaf)
    undo.callback(remove, leaf)
    for pid in members:
        undo.callback(_move_back, pid, own)
        _move(pid, leaf)


def set_limits(path: str, limits: Mapping[str, Any]) -> None:
    """Set a command's limits in its cgroup, which has no process yet.

    If the processes use more memory than their limit, the kernel kills all of them together. They
    have no swap space, since a limit of memory would otherwise only slow the machine down.

    Args:
        path: the directory of the cgroup.
        limits: the command's limits, see `SpawnSpec`.

    Raises:
        OSError: a limit was not set.
    """
    memory_bytes, processes = (limits.get(name) for name in TREE_LIMITS)
    if memory_bytes is not None:
        _write(f"{path}/memory.max", str(memory_bytes))
        with suppress(FileNotFoundError):  # The kernel does not count swap space.
            _write(f"{path}/memory.swap.max", "0")
        with suppress(FileNotFoundError):  # Linux is older than 4.19.
            _write(f"{path}/memory.oom.group", "1")
    if processes is not None:
        _write(f"{path}/pids.max", str(processes))


def memory_kill(path: str) -> bool | None:
    """Return whether the kernel has killed a process of a cgroup for lack of memory.

    Returns:
        None if it has killed none, or if that cannot be read. True if the processes needed more
        than the limit of this cgroup, False if a cgroup above it or the machine had too little.
    """
    try:
        lines = read_file(f"{path}/memory.events").decode().splitlines()
    except OSError:
        return None
    counts = {name: int(count) for name, _, count in (line.partition(" ") for line in lines)}
    return counts.get("oom", 0) > 0 if counts.get("oom_kill") else None


def _usable(path: str, name: str) -> tuple[str, ...]:
    """Return the limits whose controllers a file of a cgroup names; none if it cannot be read."""
    names: list[str] = []
    with suppress(OSError):
        names = read_file(f"{path}/{name}").decode().split()
    return tuple(limit for limit, controller in _CONTROLLERS.items() if controller in names)


def _enable(path: str, limits: Sequence[str]) -> None:
    words = " ".join(f"+{_CONTROLLERS[limit]}" for limit in limits)
    _write(f"{path}/cgroup.subtree_control", words)


def _disable(path: str, limits: Sequence[str]) -> None:
    words = " ".join(f"-{_CONTROLLERS[limit]}" for limit in limits)
    with suppress(OSError):
        _write(f"{path}/cgroup.subtree_control", words)


def _try_limits(
    limited: str, wanted: Sequence[str], undo: ExitStack, remove: Callable[[str], None]
) -> None:
    path = f"{limited}/trial"
    os.mkdir(path)
    undo.callback(remove, path)
    set_limits(path, {name: _TRIAL[name] for name in wanted})


def _move(pid: int, path: str) -> None:
    with suppress(ProcessLookupError):
        _write(f"{path}/cgroup.procs", str(pid))


def _move_back(pid: int, path: str) -> None:
    with suppress(OSError):  # The process then stays in the leaf, which harms nobody.
        _move(pid, path)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
