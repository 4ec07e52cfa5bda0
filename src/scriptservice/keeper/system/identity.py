"""The identity of a keeper, which tells whether this one, a living or a dead one wrote a journal.

A keeper is one process from its start to its end; an upgrade in place keeps the process. Two
identities are the same keeper's only if all their parts are equal.
"""

import os
from dataclasses import asdict, dataclass

from scriptservice.keeper.system.linux import boot_id, process_stat


@dataclass(frozen=True, slots=True)
class Identity:
    """Identifies one keeper process for ever.

    Attributes:
        boot: the kernel's id of the boot.
        pid_namespace: inode of its pid namespace, within which its process id is valid.
        pid: its process id.
        start_ticks: clock ticks from boot to its start.
    """

    boot: str
    pid_namespace: int
    pid: int
    start_ticks: int

    @classmethod
    def current(cls) -> "Identity":
        """Return the identity of the calling process.

        Raises:
            OSError: /proc is not mounted or cannot be read.
        """
        pid = os.getpid()
        stat = process_stat(pid)
        if stat is None:
            message = "cannot read /proc: mount it and make it readable"
            raise OSError(message)
        return cls(boot_id(), os.stat("/proc/self/ns/pid").st_ino, pid, stat.start_ticks)

    @classmethod
    def from_fields(cls, fields: dict[str, object]) -> "Identity":
        """Return the identity whose parts `fields` returned."""
        return cls(
            str(fields["boot"]),
            int(str(fields["pid_namespace"])),
            int(str(fields["pid"])),
            int(str(fields["start_ticks"])),
        )

    def fields(self) -> dict[str, str | int]:
        """Return its parts by name, for a journal record."""
        return asdict(self)

    @property
    def text(self) -> str:
        """The identity as one string, as the database stores it."""
        return f"{self.boot}/{self.pid_namespace}/{self.pid}/{self.start_ticks}"

    def shares_process_ids(self, other: "Identity") -> bool:
        """Return whether a process id names the same process for both keepers."""
        return self.boot == other.boot and self.pid_namespace == other.pid_namespace

    def is_alive(self) -> bool:
        """Return whether this keeper runs, as far as the calling process can tell."""
        if not self.shares_process_ids(Identity.current()):
            return False
        stat = process_stat(self.pid)
        return stat is not None and not stat.dead and stat.start_ticks == self.start_ticks
