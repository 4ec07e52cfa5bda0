"""This machine, as ``/v1/hosts`` shows it."""

import os
from dataclasses import dataclass, field

from scriptservice.protocol.clock import now_us


@dataclass(slots=True)
class HostInfo:
    """This machine and the service's processes on it.

    Attributes:
        name: the machine's name in the list of hosts.
        capacity: how many commands may run at the same time; None for no limit.
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
        """Return the present time, in microseconds since 1970 UTC.

        The keeper is alive now, because this process ends when the keeper dies.
        """
        return now_us()
