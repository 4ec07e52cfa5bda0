"""Hosts in the database: which keeper wrote which journal, and how far it is recorded."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from scriptservice.store.database.tables import hosts
from scriptservice.store.queries.dispatching import mark_restored
from scriptservice.store.queries.sessions import forget_all_sessions


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that runs commands.

    Attributes:
        name: its name.
        identity: of its keeper.
        journal: id of that keeper's journal.
        journal_position: how far it is recorded.
        place: tells the data directory from a copy of it.
        version: of the program there.
        last_seen_at: microseconds since 1970 UTC.
    """

    name: str
    identity: str
    journal: str
    journal_position: int
    place: str
    version: str
    last_seen_at: int


def find_host(connection: Connection, name: str, journal: str) -> Host | None:
    """Return a host by its journal or else by its name, None if it was never here.

    The journal first: a machine, and more so a container, may get another name overnight.
    """
    for mine in (hosts.c.journal == journal, hosts.c.name == name):
        row = connection.execute(select(hosts).where(mine)).one_or_none()
        if row is not None:
            return Host(*row)
    return None


def all_hosts(connection: Connection) -> list[Host]:
    """Return all hosts, by name."""
    return [Host(*row) for row in connection.execute(select(hosts).order_by(hosts.c.name))]


@dataclass(frozen=True, slots=True)
class Taking:
    """A host that a server takes over.

    Attributes:
        host: as it is now.
        restored: whether the database is older than what the host has done.
        start_queued: whether what was waiting in such a database may start.
    """

    host: Host
    restored: bool
    start_queued: bool = False


def take_host(connection: Connection, items: list[Taking]) -> list[None]:
    """Store hosts as they are now; where the database is an older one, let nothing start.

    Nor is anyone signed in there: a session may have been ended since.
    """
    for item in items:
        save_host(connection, [item.host])
        if item.restored:
            mark_restored(connection, item.host.identity, start_queued=item.start_queued)
            forget_all_sessions(connection)
    return [None] * len(items)


def save_host(connection: Connection, items: list[Host]) -> list[None]:
    """Store hosts as they are now, in place of what was known of them under name or journal."""
    for host in items:
        mine = (hosts.c.name == host.name) | (hosts.c.journal == host.journal)
        connection.execute(delete(hosts).where(mine))
        values = {name: getattr(host, name) for name in Host.__slots__}
        connection.execute(insert(hosts).values(**values))
    return [None] * len(items)
