"""Which keeper wrote a journal: this one, one that lives, or one that died.

A keeper is one process from its start to its end; an upgrade in place keeps it. Its identity is
compared as a whole, and a part that differs means another keeper.
"""

import os
from dataclasses import asdict, dataclass

from scriptservice.keeper.system.linux import boot_id, process_stat


@dataclass(frozen=True, slots=True)
class Identity:
    """Names one keeper process for ever.

    Attributes:
        boot: the kernel's id of the boot it runs under.
        pid_namespace: inode of its pid namespace; process ids mean something only within it.
        pid: its process id.
        start_ticks: clock ticks from boot to its start.
    """

    boot: str
    pid_namespace: int
    pid: int
    start_ticks: int

    @classmethod
    def current(cls) -> "Identity":
        """Return the identity of the calling process."""
        pid = os.getpid()
        stat = process_stat(pid)
        if stat is None:
            message = "cannot read /proc: it is needed, mounted and readable"
            raise OSError(message)
        return cls(boot_id(), os.stat("/proc/self/ns/pid").st_ino, pid, stat.start_ticks)

    @classmethod
    def from_fields(cls, fields: dict[str, object]) -> "Identity":
        """Return the identity that ``fields`` made."""
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
        """The identity as one string, as it stands in ``dispatched_to`` and ``hosts``."""
        return f"{self.boot}/{self.pid_namespace}/{self.pid}/{self.start_ticks}"

    def shares_process_ids(self, other: "Identity") -> bool:
        """Whether a process id means the same process to both."""
        return self.boot == other.boot and self.pid_namespace == other.pid_namespace

    def is_alive(self) -> bool:
        """Whether the keeper of this identity still runs, seen from the calling process."""
        if not self.shares_process_ids(Identity.current()):
            return False
        stat = process_stat(self.pid)
        return stat is not None and not stat.dead and stat.start_ticks == self.start_ticks
