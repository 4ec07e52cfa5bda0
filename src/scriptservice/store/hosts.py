"""Hosts in the database: which keeper wrote which journal, and how far it is recorded."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from scriptservice.store.tables import hosts


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


def find_host(connection: Connection, name: str) -> Host | None:
    """Return a host by name, None if it was never here."""
    row = connection.execute(select(hosts).where(hosts.c.name == name)).one_or_none()
    return None if row is None else Host(*row)


def all_hosts(connection: Connection) -> list[Host]:
    """Return all hosts, by name."""
    return [Host(*row) for row in connection.execute(select(hosts).order_by(hosts.c.name))]


def save_host(connection: Connection, items: list[Host]) -> list[None]:
    """Store hosts as they are now, in place of what was known of them."""
    for host in items:
        connection.execute(delete(hosts).where(hosts.c.name == host.name))
        values = {name: getattr(host, name) for name in Host.__slots__}
        connection.execute(insert(hosts).values(**values))
    return [None] * len(items)
