"""A cgroup for each script, so that the kernel keeps the list of the script's processes.

The list is exact from before the script's first instruction until the script's last process has
ended. ``recovery`` uses the functions of this module too, to kill the processes in the cgroups of a
dead keeper.
"""

import os
import signal
import subprocess
from contextlib import suppress

from scriptservice.keeper.system.linux import ProcessStat, ignore_vanished, read_file
from scriptservice.keeper.tree.process_tree import TreeRoot
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

    def __init__(self, base: str) -> None:
        self._base = base
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
            procs = tree.open_join_file("probe")
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

    @property
    def base(self) -> str:
        """The directory of the keeper's cgroup."""
        return self._base

    def path(self, command_id: str) -> str:
        """Return the directory of a command's cgroup."""
        return f"{self._base}/{command_id}"

    def open_join_file(self, command_id: str) -> int:
        """See `ProcessTree.open_join_file`."""
        path = self.path(command_id)
        with suppress(FileExistsError):
            os.mkdir(path)
        return os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def is_empty(self, root: TreeRoot) -> bool:
        """See `ProcessTree.is_empty`."""
        return is_cgroup_empty(self.path(root.id))

    def signal(self, root: TreeRoot, number: int) -> set[int]:
        """See `ProcessTree.signal`."""
        return signal_cgroup(self.path(root.id), number)

    def kill(self, root: TreeRoot) -> bool:
        """See `ProcessTree.kill`."""
        return kill_cgroup(self.path(root.id))

    def forget(self, root: TreeRoot) -> None:
        """See `ProcessTree.forget`."""
        remove_cgroup(self.path(root.id))

    def refresh(self) -> None:
        """See `ProcessTree.refresh`; nothing is cached here."""

    def unattributed_orphans(self) -> list[ProcessStat]:
        """See `ProcessTree.unattributed_orphans`; every process in a cgroup has a known command."""
        return []

    def close(self) -> None:
        """See `ProcessTree.close`."""
        remove_cgroup(self._base)


def is_cgroup_empty(path: str) -> bool:
    """Return whether a cgroup and the cgroups below it have no live process.

    The result is True if the cgroup does not exist.
    """
    try:
        return b"populated 0" in read_file(f"{path}/cgroup.events")
    except FileNotFoundError:
        return True


def cgroup_pids(path: str) -> list[int]:
    """Return the ids of the processes in a cgroup and in the cgroups below it.

    The list is empty if the cgroup does not exist.
    """
    found: list[int] = []
    with ignore_vanished():
        found += map(int, read_file(f"{path}/cgroup.procs").split())
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                found += cgroup_pids(entry.path)
    return found


def signal_cgroup(path: str, number: int) -> set[int]:
    """Signal every process in a cgroup and in the cgroups below it.

    Returns:
        The ids of the processes that were signalled.
    """
    signalled: set[int] = set()
    name = os.path.basename(path).encode()
    for pid in cgroup_pids(path):
        with ignore_vanished():
            pidfd = os.pidfd_open(pid)
            try:
                # Another process may have got this id after the ids were listed, so check the
                # cgroup of the process. If another process gets the id after the pidfd was opened,
                # the process of the pidfd has ended, and the signal reaches no process.
                if name in read_file(f"/proc/{pid}/cgroup"):
                    signal.pidfd_send_signal(pidfd, number)
                    signalled.add(pid)
            finally:
                os.close(pidfd)
    return signalled


def kill_cgroup(path: str) -> bool:
    """Kill every process in a cgroup and below it; return whether the cgroup is empty."""
    try:
        descriptor = os.open(f"{path}/cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # Linux is older than 5.14, or the cgroup does not exist.
        signal_cgroup(path, signal.SIGKILL)
    else:
        try:
            os.write(descriptor, b"1")
        except OSError:  # The cgroup is gone, or a script that runs as root has made it threaded.
            signal_cgroup(path, signal.SIGKILL)
        finally:
            os.close(descriptor)
    return is_cgroup_empty(path)


def remove_cgroup(path: str) -> None:
    """Remove a cgroup and the cgroups below it; a cgroup that still has a process stays."""
    with suppress(OSError):
        # Most cgroups have no cgroups below them. So try this first: the attempt costs less than a
        # look into the directory.
        os.rmdir(path)
        return
    with suppress(OSError):
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                remove_cgroup(entry.path)
        os.rmdir(path)
