"""Whether a database to which the writer has connected anew is the one it was connected to before.

After a failover it may lack the last commits; after a mishap another server may have written to it.
A server that went on would run again what it has forgotten, or count on numbers that are taken.
"""

from collections.abc import Callable

from sqlalchemy import Connection, select

from scriptservice.store.database.tables import hosts
from scriptservice.store.queries.commands import next_number
from scriptservice.store.queries.journal_changes import OtherDatabaseError


class Continuity:
    """Checks each new connection of the writer.

    Args:
        journal: id of this host's journal.
        identity: of its keeper.
        acknowledged: returns up to where the keeper was told that its journal is stored; what
            it may forget, the database must have.
        number: returns the number that the next new command gets.
    """

    def __init__(
        self,
        journal: str,
        identity: str,
        acknowledged: Callable[[], int],
        number: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._identity = identity
        self._acknowledged = acknowledged
        self._number = number

    def __call__(self, connection: Connection) -> None:
        """Compare a database with what is known of it.

        Raises:
            OtherDatabaseError: it is another one, or an older one.
        """
        query = select(hosts.c.identity, hosts.c.journal_position).where(
            hosts.c.journal == self._journal
        )
        row = connection.execute(query).one_or_none()
        if row is None or row.identity != self._identity:
            message = "cannot go on: the database does not know this host as it left it"
            raise OtherDatabaseError(message)
        known = self._acknowledged()
        if row.journal_position < known:
            message = (
                f"cannot go on: the database has recorded up to {row.journal_position}, and had "
                f"up to {known}"
            )
            raise OtherDatabaseError(message)
        if next_number(connection) > self._number():
            message = "cannot go on: another server has written to the database"
            raise OtherDatabaseError(message)
