"""This machine, as ``/v1/hosts`` shows it."""

import os
from dataclasses import dataclass, field

from scriptservice.protocol.clock import now_us


@dataclass(slots=True)
class HostInfo:
    """This machine and the service's processes on it.

    Attributes:
        name: its name among hosts.
        capacity: how many commands may run at once; None for any number.
        keeper_pid: the keeper's process id.
        child_pid: the server's process id.
        status: ``up``, or ``draining`` while the service stops.
    """

    name: str
    capacity: int | None
    keeper_pid: int
    child_pid: int = field(default_factory=os.getpid)
    status: str = "up"

    def last_seen_at(self) -> int:
        """Return the present time: the keeper's death would end this process as well."""
        return now_us()
