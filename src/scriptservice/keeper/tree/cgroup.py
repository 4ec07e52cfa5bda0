"""A cgroup for each script, so that the kernel keeps the list of the script's processes.

The list is exact from before the script's first instruction until the script's last process has
ended. ``recovery`` uses the functions of this module too, to kill the processes in the cgroups of a
dead keeper.
"""

import errno
import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from scriptservice.keeper.system.linux import (
    ProcessStat,
    ignore_vanished,
    is_resource_shortage,
    process_stat,
    read_file,
)
from scriptservice.keeper.tree.controllers import (
    enable_controllers,
    limited_directory,
    memory_kill,
    set_limits,
)
from scriptservice.keeper.tree.killing import signal_all
from scriptservice.keeper.tree.ownership import is_dead
from scriptservice.keeper.tree.process_tree import KillResult, TreeRoot, Unkillable
from scriptservice.keeper.upgrade_state import TreeState


def own_cgroup() -> str | None:
    """Return the directory of this process's cgroup, None if no mounted cgroup2 contains it."""
    path = None
    for line in read_file("/proc/self/cgroup").decode().splitlines():
        number, _, name = line.split(":", 2)
        if number == "0":
            path = name
    if path is None:
        return None
    for line in read_file("/proc/self/mountinfo").decode().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] != "cgroup2":
            continue
        root, mount = before.split()[3:5]
        inside = os.path.relpath(path, root)
        if not inside.startswith(".."):
            return os.path.normpath(os.path.join(mount, inside))
    return None


class CgroupTree:
    """A cgroup for each script, below a cgroup of the keeper; see `ProcessTree`.

    Args:
        base: directory of the keeper's cgroup; created here if it does not exist.
    """

    mode = "cgroup"
    may_leave_orphans = False

    def __init__(self, base: str) -> None:
        self._base = base
        self._limited = limited_directory(base)
        self._limited_ids: set[str] = set()
        self._forbidden: dict[str, tuple[Unkillable, ...]] = {}
        self.limits: tuple[str, ...] = ()
        with suppress(FileExistsError):  # The directory exists after an upgrade in place.
            os.mkdir(base)

    def to_state(self) -> TreeState:
        """See `ProcessTree.to_state`."""
        return TreeState(mode=self.mode, base=self._base)

    @classmethod
    def probe(cls, name: str) -> "CgroupTree | None":
        """Return a tree if a trial shows that processes can be put into cgroups here, else None.

        Args:
            name: name of the keeper's cgroup.
        """
        tree: CgroupTree | None = None
        with suppress(OSError, subprocess.SubprocessError):
            own = own_cgroup()
            if own is None:
                return None
            tree = cls(os.path.join(own, name))
            procs = tree.open_join_file("probe", {})
            try:
                subprocess.run(
                    ["/bin/true"],
                    check=True,
                    preexec_fn=lambda: os.write(procs, b"0") and None,
                )
            finally:
                os.close(procs)
                os.rmdir(tree.path("probe"))
            return tree
        if tree is not None:
            tree.close()
        return None

    def enable_limits(self) -> None:
        """Make the limits of process trees available where the controllers can be used.

        This moves the keeper and its children to another cgroup, see `controllers`.
        """
        self.limits = enable_controllers(self._base, remove_cgroup)
        with suppress(OSError):  # After an upgrade there may be commands with limits.
            self._limited_ids = {each.name for each in os.scandir(self._limited) if each.is_dir()}

    @property
    def base(self) -> str:
        """The directory of the keeper's cgroup."""
        return self._base

    def can_be_left_by(self, uid: int) -> bool:
        """Return whether processes of a user may move themselves out of these cgroups."""
        return uid in (0, os.stat(self._base).st_uid)

    def path(self, command_id: str) -> str:
        """Return the directory of a command's cgroup."""
        return f"{self._directory(command_id)}/{command_id}"

    def _directory(self, command_id: str) -> str:
        return self._limited if command_id in self._limited_ids else self._base

    def open_join_file(self, command_id: str, limits: Mapping[str, Any]) -> int:
        """See `ProcessTree.open_join_file`."""
        needs_controllers = not limits.keys().isdisjoint(self.limits)
        if needs_controllers:
            self._limited_ids.add(command_id)
        path = self.path(command_id)
        with suppress(FileExistsError):
            os.mkdir(path)
        if needs_controllers:
            set_limits(path, limits)
        return os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def is_empty(self, root: TreeRoot) -> bool:
        """See `ProcessTree.is_empty`."""
        return is_cgroup_empty(self.path(root.id))

    def signal(self, root: TreeRoot, number: int) -> set[int]:
        """See `ProcessTree.signal`."""
        return signal_all(cgroup_processes(self.path(root.id)), number).sent

    def kill(self, root: TreeRoot) -> KillResult:
        """See `ProcessTree.kill`."""
        result = kill_cgroup(self.path(root.id))
        if result.forbidden:
            self._forbidden[root.id] = result.forbidden
        else:
            self._forbidden.pop(root.id, None)
        return result

    def unkillable(self) -> list[tuple[str, Unkillable]]:
        """See `ProcessTree.unkillable`."""
        return [(command, each) for command, found in self._forbidden.items() for each in found]

    def forget(self, root: TreeRoot) -> None:
        """See `ProcessTree.forget`."""
        self._forbidden.pop(root.id, None)
        remove_cgroup(self.path(root.id))
        self._limited_ids.discard(root.id)

    def memory_kill(self, root: TreeRoot) -> bool | None:
        """See `ProcessTree.memory_kill`."""
        return memory_kill(self.path(root.id)) if root.id in self._limited_ids else None

    def refresh(self) -> None:
        """See `ProcessTree.refresh`; nothing is cached here."""

    def unattributed_orphans(self) -> list[ProcessStat]:
        """See `ProcessTree.unattributed_orphans`; every process in a cgroup has a known command."""
        return []

    def kill_unattributed_orphans(self) -> KillResult:
        """See `ProcessTree.kill_unattributed_orphans`; there are none."""
        return KillResult(empty=True)

    def close(self) -> None:
        """See `ProcessTree.close`."""
        remove_keeper_cgroups(self._base)


def command_cgroups(base: str, command_id: str) -> list[str]:
    """Return the directories where a keeper may have made a command's cgroup.

    Args:
        base: the directory of the keeper's cgroups.
        command_id: the command's UUID.
    """
    return [f"{directory}/{command_id}" for directory in (base, limited_directory(base))]


def remove_keeper_cgroups(base: str) -> None:
    """Remove the cgroups of a keeper; a cgroup that still has a process stays.

    Args:
        base: the directory of the keeper's cgroups.
    """
    for directory in (limited_directory(base), base):
        remove_cgroup(directory)


def is_cgroup_empty(path: str) -> bool:
    """Return whether a cgroup and the cgroups below it have no live process.

    The result is True if the cgroup does not exist.
    """
    try:
        return b"populated 0" in read_file(f"{path}/cgroup.events")
    except OSError as error:
        # ENODEV: the cgroup was removed between the opening and the reading of the file.
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return True
        raise


def cgroup_processes(path: str) -> list[ProcessStat]:
    """Return the living processes in a cgroup and in the cgroups below it.

    The list is empty if the cgroup does not exist.
    """
    name = os.path.basename(path).encode()
    found: list[ProcessStat] = []
    for pid in _cgroup_pids(path):
        with ignore_vanished():
            stat = process_stat(pid)
            # Another process may have got this id after the ids were listed, so check the cgroup of
            # the process. If another process gets the id later, `signal_process` detects that by
            # the start.
            if stat and not is_dead(stat) and name in read_file(f"/proc/{pid}/cgroup"):
                found.append(stat)
    return found


def _cgroup_pids(path: str) -> list[int]:
    found: list[int] = []
    with ignore_vanished():
        found += map(int, read_file(f"{path}/cgroup.procs").split())
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                found += _cgroup_pids(entry.path)
    return found


def kill_cgroup(path: str) -> KillResult:
    """Kill every process in a cgroup and in the cgroups below it.

    The kernel kills all of them in one step, whatever their users are. If the kernel cannot do
    that, the keeper signals each process. The kernel may forbid the keeper to signal some of them.

    Raises:
        OSError: the keeper is short of descriptors or memory, see `is_resource_shortage`.
    """
    forbidden: tuple[Unkillable, ...] = ()
    try:
        descriptor = os.open(f"{path}/cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"1")
        finally:
            os.close(descriptor)
    except OSError as error:
        if is_resource_shortage(error):
            raise
        # Linux is older than 5.14, the cgroup is gone, or a script that runs as root has made the
        # cgroup threaded or has changed the mode of the file.
        forbidden = tuple(signal_all(cgroup_processes(path), signal.SIGKILL).forbidden)
    return KillResult(is_cgroup_empty(path), forbidden)


def remove_cgroup(path: str) -> None:
    """Remove a cgroup and the cgroups below it; a cgroup that still has a process stays."""
    with suppress(OSError):
        # Most cgroups have no cgroups below them. This attempt costs less than reading the
        # directory.
        os.rmdir(path)
        return
    with suppress(OSError):
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                remove_cgroup(entry.path)
        os.rmdir(path)
