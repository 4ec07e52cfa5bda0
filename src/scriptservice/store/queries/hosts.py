"""Hosts: which keeper writes which journal, and how far that journal is stored."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from scriptservice.store.database.tables import hosts
from scriptservice.store.queries.dispatching import mark_restored
from scriptservice.store.queries.sessions import delete_all_sessions


@dataclass(frozen=True, slots=True)
class StoredHost:
    """A machine that runs commands, as the database stores it.

    Attributes:
        name: name of the host.
        identity: identity of the host's keeper.
        journal: id of that keeper's journal.
        journal_position: the database has stored the journal up to this position.
        place: a text that differs between the host's data directory and a copy of that directory.
        version: version of the program on the host.
        last_seen_at: when a server stored these values, in microseconds since 1970 UTC.
    """

    name: str
    identity: str
    journal: str
    journal_position: int
    place: str
    version: str
    last_seen_at: int


def find_host(connection: Connection, name: str, journal: str) -> StoredHost | None:
    """Return the host that has this journal, else the host that has this name, else None.

    The journal has precedence over the name, because a machine, and more often a container, may
    get another name.
    """
    for mine in (hosts.c.journal == journal, hosts.c.name == name):
        row = connection.execute(select(hosts).where(mine)).one_or_none()
        if row is not None:
            return StoredHost(*row)
    return None


def all_hosts(connection: Connection) -> list[StoredHost]:
    """Return all hosts, ordered by name."""
    return [StoredHost(*row) for row in connection.execute(select(hosts).order_by(hosts.c.name))]


@dataclass(frozen=True, slots=True)
class HostTakeover:
    """A host that a server takes over.

    Attributes:
        host: the host as it is now.
        restored: whether the database may be a copy, or may lack something that the host's keeper
            has done. Both are true of a database that was restored from a backup.
        start_queued: whether commands that are queued in a restored database may start.
    """

    host: StoredHost
    restored: bool
    start_queued: bool = False


def take_over_host(connection: Connection, items: list[HostTakeover]) -> list[None]:
    """Store hosts as they are now. In a restored database, prevent open commands from starting.

    All sessions in a restored database are deleted, because they may have ended since the backup.
    """
    for item in items:
        save_host(connection, [item.host])
        if item.restored:
            mark_restored(connection, item.host.identity, start_queued=item.start_queued)
            delete_all_sessions(connection)
    return [None] * len(items)


def save_host(connection: Connection, items: list[StoredHost]) -> list[None]:
    """Store hosts. A host replaces stored hosts that have the same name or the same journal."""
    for host in items:
        mine = (hosts.c.name == host.name) | (hosts.c.journal == host.journal)
        connection.execute(delete(hosts).where(mine))
        values = {name: getattr(host, name) for name in StoredHost.__slots__}
        connection.execute(insert(hosts).values(**values))
    return [None] * len(items)
