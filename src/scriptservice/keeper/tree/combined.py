"""Finds the processes of a script by its cgroup and by lists of children.

A script that runs as root, or as the owner of the keeper's cgroups, may move its processes to
another cgroup. These processes then still descend from the script's process, or are orphans. The
kernel makes orphans children of the keeper, because the keeper is their sub-reaper.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from scriptservice.keeper.system.linux import ProcessStat
from scriptservice.keeper.tree.cgroup import (
    CgroupTree,
    cgroup_processes,
    is_cgroup_empty,
    kill_cgroup,
)
from scriptservice.keeper.tree.descent import DescentTree
from scriptservice.keeper.tree.killing import Found, kill_until_quiet, signal_all
from scriptservice.keeper.tree.process_tree import KillResult, TreeRoot, Unkillable
from scriptservice.keeper.upgrade_state import TreeState

_KILL_SECONDS = 0.02


class CombinedTree:
    """A tree is empty if both `CgroupTree` and `DescentTree` find no process; see `ProcessTree`.

    Args:
        cgroup: finds processes by the cgroups of the scripts.
        descent: finds processes by lists of children, and uses these cgroups to find the command of
            an orphan.
    """

    mode = CgroupTree.mode
    may_leave_orphans = True

    def __init__(self, cgroup: CgroupTree, descent: DescentTree) -> None:
        self._cgroup = cgroup
        self._descent = descent

    @property
    def base(self) -> str:
        """The directory of the keeper's cgroup."""
        return self._cgroup.base

    def to_state(self) -> TreeState:
        """See `ProcessTree.to_state`."""
        known = self._descent.to_state()
        return replace(known, mode=self.mode, base=self.base, descent=True)

    @property
    def limits(self) -> tuple[str, ...]:
        """See `ProcessTree`."""
        return self._cgroup.limits

    def open_join_file(self, command_id: str, limits: Mapping[str, Any]) -> int:
        """See `ProcessTree.open_join_file`."""
        return self._cgroup.open_join_file(command_id, limits)

    def is_empty(self, root: TreeRoot) -> bool:
        """See `ProcessTree.is_empty`."""
        return self._cgroup.is_empty(root) and self._descent.is_empty(root)

    def _look(self, root: TreeRoot) -> Found:
        found = self._descent.look(root)
        members = {stat.pid: stat for stat in found.processes}
        members |= {stat.pid: stat for stat in cgroup_processes(self._cgroup.path(root.id))}
        return Found(members.values(), found.complete)

    def signal(self, root: TreeRoot, number: int) -> set[int]:
        """See `ProcessTree.signal`."""
        return signal_all(self._look(root).processes, number).sent

    def kill(self, root: TreeRoot) -> KillResult:
        """See `ProcessTree.kill`."""
        path = self._cgroup.path(root.id)

        def look() -> Found:
            # Find the processes before the kill of the cgroup. Otherwise the children of a killed
            # process could become orphans whose command the keeper does not know.
            found = self._look(root)
            kill_cgroup(path)
            return Found(found.processes, found.complete and is_cgroup_empty(path))

        return self._descent.remember(root, kill_until_quiet(look, seconds=_KILL_SECONDS))

    def unkillable(self) -> list[tuple[str, Unkillable]]:
        """See `ProcessTree.unkillable`."""
        return self._descent.unkillable()

    def forget(self, root: TreeRoot) -> None:
        """See `ProcessTree.forget`."""
        self._descent.forget(root)
        self._cgroup.forget(root)

    def memory_kill(self, root: TreeRoot) -> bool | None:
        """See `ProcessTree.memory_kill`."""
        return self._cgroup.memory_kill(root)

    def refresh(self) -> None:
        """See `ProcessTree.refresh`."""
        self._descent.refresh()

    def unattributed_orphans(self) -> list[ProcessStat]:
        """See `ProcessTree.unattributed_orphans`."""
        return self._descent.unattributed_orphans()

    def kill_unattributed_orphans(self) -> KillResult:
        """See `ProcessTree.kill_unattributed_orphans`."""
        return self._descent.kill_unattributed_orphans()

    def close(self) -> None:
        """See `ProcessTree.close`."""
        self._cgroup.close()
