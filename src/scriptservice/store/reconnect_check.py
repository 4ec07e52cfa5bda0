"""Checks after each reconnect of the writer that the database is the same database as before.

After a failover the database may lack the last commits. After a mistake of an administrator
another server may have written to the database. In such a case this server must not go on. It could
run a command a second time, because the database has lost what happened to the command. It could
also give a new command a number that already exists.
"""

from collections.abc import Callable

from sqlalchemy import Connection, select

from scriptservice.store.database.tables import hosts
from scriptservice.store.queries.commands import next_number
from scriptservice.store.queries.journal_changes import OtherDatabaseError


class ReconnectCheck:
    """A callable that checks a new connection of the writer.

    Args:
        journal: id of this host's journal.
        identity: identity of this host's keeper.
        acknowledged: returns a journal position. This server told the keeper that everything
            before that position is stored. The keeper may have deleted that part of the journal,
            so the database must contain everything before that position.
        number: returns the number that this server gives to the next new command.
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
        """Compare the database with what this server knows about it.

        Args:
            connection: the new connection of the writer.

        Raises:
            OtherDatabaseError: the connection leads to another database, or to an older copy of
                the database.
        """
        query = select(hosts.c.identity, hosts.c.journal_position).where(
            hosts.c.journal == self._journal
        )
        row = connection.execute(query).one_or_none()
        if row is None or row.identity != self._identity:
            message = "cannot go on: the database does not know this host as it was stored"
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
