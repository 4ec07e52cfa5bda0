"""The seam between the server and a host's keeper: few verbs, the same near and far."""

from dataclasses import dataclass
from typing import Protocol

from scriptservice.protocol.frames import SpawnSpec
from scriptservice.protocol.journal_format import Record


@dataclass(frozen=True, slots=True)
class HostState:
    """What a keeper says of itself now.

    Attributes:
        tree_kill: ``cgroup`` or ``walk``.
        running: scripts that have not been closed.
        waiting: scripts it has been given and not started.
        full: whether output or records wait for room.
        unrecorded_bytes: journal that is not yet in the database.
        strays: process ids of orphans that nobody can attribute.
        spawn: how it starts scripts: ``clone``, ``launcher`` or ``fork``, as every keeper did
            that does not say it.
    """

    tree_kill: str
    running: int
    waiting: int
    full: bool
    unrecorded_bytes: int
    strays: tuple[int, ...]
    spawn: str = "fork"


@dataclass(frozen=True, slots=True)
class Held:
    """What a keeper has.

    Attributes:
        commands: ids of those that it has started and whose end is not in its journal.
        end: how far the journal reached then.
    """

    commands: frozenset[str]
    end: int


class Transport(Protocol):
    """One host's keeper.

    Attributes:
        host: its name.
        identity: of the keeper; another one after its death.
        journal: id of its journal.
        capacity: how many scripts it can run at once.
        end: how far its journal is known to reach.
    """

    host: str
    identity: str
    journal: str
    capacity: int
    end: int

    def spawn(self, spec: SpawnSpec) -> None:
        """Ask for a script to be run; the journal tells what came of it."""

    async def drained(self) -> None:
        """Wait until little of what is to be said waits to be sent."""

    def adopted(self) -> None:
        """Say that nothing that an earlier server sent will be sent again."""

    def stop(self, command: str, signal: str, grace_seconds: float) -> None:
        """Ask for a command to be stopped; without effect when it is not there."""

    def expire(self, command: str) -> None:
        """Say that a command's queue time-out has passed; without effect once it has started."""

    def recorded(self, position: int) -> None:
        """Say that the journal is stored up to a position."""

    def read(self, position: int, max_bytes: int) -> tuple[list[Record], int]:
        """Return journal records from a position on; blocks, for a thread.

        Raises:
            JournalGapError: the journal begins later.
            JournalDamagedError: what stands there is not what was written.
        """

    async def grown(self, position: int) -> None:
        """Return once the journal reaches beyond a position."""

    async def state(self) -> HostState:
        """Ask how it is.

        Raises:
            TimeoutError: it does not answer.
        """

    async def held(self) -> Held:
        """Ask which commands it has.

        Raises:
            TimeoutError: it does not answer.
        """
