"""Checks after each reconnect of the writer that the database is still the one it used before.

After a failover the database may lack the last commits. After a mistake of an administrator
another server may have written to it. If this server went on, it would run forgotten commands
again, or use numbers that are taken.
"""

from collections.abc import Callable

from sqlalchemy import Connection, select

from scriptservice.store.database.tables import hosts
from scriptservice.store.queries.commands import next_number
from scriptservice.store.queries.journal_changes import OtherDatabaseError


class ReconnectCheck:
    """Checks each new connection of the writer; called with that connection.

    Args:
        journal: id of this host's journal.
        identity: identity of this host's keeper.
        acknowledged: returns the position up to which the keeper was told that its journal is
            stored. The keeper may have dropped that part, so the database must have it.
        number: returns the number of the next new command.
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
        """Compare the database with what this server knows of it.

        Raises:
            OtherDatabaseError: it is another database, or an older copy.
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
                f"cannot go on: the database has the journal up to {row.journal_position}, and had "
                f"it up to {known}"
            )
            raise OtherDatabaseError(message)
        if next_number(connection) > self._number():
            message = "cannot go on: another server has written to the database"
            raise OtherDatabaseError(message)
