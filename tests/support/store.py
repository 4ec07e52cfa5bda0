"""A real database for the store's tests, with short methods to fill, read and inspect it."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, select, update

from scriptservice.ids import new_id
from scriptservice.model import Command, Origin, Status, Submission
from scriptservice.store.database.engine import Database
from scriptservice.store.database.tables import commands, metadata
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import hosts as host_store
from scriptservice.store.queries.journal_changes import (
    Chunk,
    CommandChange,
    JournalChanges,
    store_journal_changes,
)
from scriptservice.store.queries.queueing.new_commands import AdmittedCommand, NewCommand

CREATED = 1_795_450_800_000_000
KEEPER = "a keeper's identity"


class Store:
    """An open database with methods for tests.

    Args:
        database: an open database with the newest schema.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._insert = command_store.Inserter(1)

    def write(self, job: Callable[[Connection, list[Any]], list[Any]], *items: Any) -> list[Any]:
        """Run a job of the writer in a transaction of its own."""
        with self.database.writing.begin() as connection:
            return job(connection, list(items))

    def read(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function of the reader."""
        with self.database.reading.begin() as connection:
            return function(connection, *args)

    def new(self, **fields: Any) -> NewCommand:
        """Return a new command; fields that `NewCommand` does not have go into its submission."""
        own = {name: fields.pop(name) for name in list(fields) if name in _OWN}
        values = {
            "id": new_id(),
            "origin": Origin("admin"),
            "created_at": CREATED,
            "rerun_of": None,
            "host": None,
            "dispatched_to": None,
            **own,
        }
        return NewCommand(submission=Submission(**{"script": "true", **fields}), **values)

    def add(self, status: Status = Status.QUEUED, **fields: Any) -> Command:
        """Store a command and set its status, even if no transition leads there."""
        (stored,) = self.write(self._insert, self.new(**fields))
        if isinstance(stored, AdmittedCommand):
            stored = stored.command
        if status is not Status.QUEUED:
            self.set(stored, status=status.value)
        return self.find(stored.id)

    def insert(self, *items: NewCommand) -> list[Command]:
        """Store commands in one transaction."""
        return self.write(self._insert, *items)

    def store_changes(
        self, chunks: Sequence[Chunk] = (), changes: Sequence[CommandChange] = ()
    ) -> list[set[int]]:
        """Store a further part of a host's journal."""
        known = self.read(host_store.find_host, "alpha", "journal")
        if known is None:
            known = host_store.StoredHost("alpha", KEEPER, "journal", 0, "place", "1.0", CREATED)
            self.write(host_store.save_host, known)
        begin = known.journal_position
        part = JournalChanges("alpha", "journal", begin, begin + 1, list(chunks), list(changes))
        return self.write(store_journal_changes, part)

    def set(self, command: Command, **columns: Any) -> None:
        """Change columns of a command directly in the database."""
        statement = update(commands).where(commands.c.number == command.number).values(**columns)
        with self.database.writing.begin() as connection:
            connection.execute(statement)

    def find(self, command_id: UUID) -> Command:
        """Return a command with all its fields."""
        return self.read(command_store.find, command_id)

    def row(self, command: Command) -> dict[str, Any]:
        """Return all columns of a command."""
        query = select(commands).where(commands.c.number == command.number)
        return dict(self.read(lambda connection: connection.execute(query).one())._mapping)

    def count(self, table: str) -> int:
        """Return the number of rows of a table."""
        query = select(func.count()).select_from(metadata.tables[table])
        return int(self.read(lambda connection: connection.execute(query).scalar()))


_OWN = set(NewCommand.__slots__) - {"submission"}
