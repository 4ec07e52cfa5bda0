"""The identity of a keeper, as it is stored in the keeper's journal and in the database.

The identity tells whether a journal was written by this keeper, by another living keeper or by a
dead keeper. A keeper is one process from its start to its end; an upgrade in place keeps the
process. Two identities belong to the same keeper only if all their parts are equal.
"""

import os
from dataclasses import asdict, dataclass

from scriptservice.keeper.system.linux import boot_id, process_stat


@dataclass(frozen=True, slots=True)
class Identity:
    """Identifies one keeper process for ever.

    Attributes:
        boot: the kernel's random id of the boot.
        pid_namespace: inode of the keeper's pid namespace, in which ``pid`` is valid.
        pid: the keeper's process id.
        start_ticks: when the keeper's process started, in clock ticks from boot.
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
        """Return the parts of the identity by name, for a journal record."""
        return asdict(self)

    @property
    def text(self) -> str:
        """The identity as one string, as the database stores it."""
        return f"{self.boot}/{self.pid_namespace}/{self.pid}/{self.start_ticks}"

    def shares_process_ids(self, other: "Identity") -> bool:
        """Return whether a process id means the same process for both keepers."""
        return self.boot == other.boot and self.pid_namespace == other.pid_namespace

    def is_alive(self) -> bool:
        """Return whether the keeper with this identity runs.

        The answer is also False if that keeper has another pid namespace, since this process cannot
        see the processes there.
        """
        if not self.shares_process_ids(Identity.current()):
            return False
        stat = process_stat(self.pid)
        return stat is not None and not stat.dead and stat.start_ticks == self.start_ticks
