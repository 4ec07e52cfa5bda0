"""The steps of a server's start that use the database.

The server waits for the database, checks the database's schema, becomes the only writer, and loads
the tokens. Then it takes over the host: it stores which keeper the host has now.
``server.composition`` calls the steps in order. No step uses HTTP.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import structlog

from scriptservice.errors import (
    ConfigurationError,
    OtherWriterError,
    StoreUnavailableError,
)
from scriptservice.fleet.local import Hello
from scriptservice.protocol.clock import now_us
from scriptservice.server.startup.server_config import ServerConfig
from scriptservice.store.database.engine import Database, probe_write
from scriptservice.store.database.schema import prepare_schema
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import hosts as host_store
from scriptservice.store.queries import tokens as token_store
from scriptservice.store.reader import Reader
from scriptservice.store.until_stored import AGAIN_SECONDS, until_stored
from scriptservice.store.writer import Job, Writer, cause_of
from scriptservice.version import __version__

SILENT_SECONDS = 2.0
"""How long a step may take before the log says that the database does not answer."""

FOREIGN_HOST_SECONDS = 10.0
"""How long a server checks that no other server writes to the database. It does so only if the
database knows other hosts but not this host."""

Item = TypeVar("Item")
Result = TypeVar("Result")

log = structlog.get_logger()


class DatabaseStartup:
    """The steps of a server's start that use the database.

    Args:
        config: the server's configuration.
        hello: the keeper's greeting.
        database: the database.
        writer: writes to the database.
        reader: reads from the database.
        on_waiting: called with the reason whenever the start waits for the database.
    """

    def __init__(
        self,
        config: ServerConfig,
        hello: Hello,
        *,
        database: Database,
        writer: Writer,
        reader: Reader,
        on_waiting: Callable[[str], None],
    ) -> None:
        self._config = config
        self._hello = hello
        self._database = database
        self._writer = writer
        self._reader = reader
        self._on_waiting = on_waiting

    async def open(self) -> None:
        """Wait until the database has this release's schema and this server may write to it.

        Raises:
            ConfigurationError: this release cannot use the database's schema, or another server
                writes to the database.
        """
        await until_stored(self._try_to_open, None)

    async def _try_to_open(self) -> None:
        try:
            await self._report_silence(
                asyncio.to_thread(prepare_schema, self._database, migrate=self._config.migrate)
            )
            if self._database.write_lock_in_session:
                await self._become_writer()
        except StoreUnavailableError as error:
            self._report_unavailable(error)
            raise

    async def _become_writer(self) -> None:
        """Become the only writer; from then on, an earlier server can no longer write.

        If the database knows other hosts but not this host, first check for `FOREIGN_HOST_SECONDS`
        that no other server writes to the database. Without this check, this server could become
        the writer while another host's server is being restarted. The commands that run on that
        host would then be lost.
        """
        hosts = await self._reader.run(host_store.all_hosts)
        if hosts and not any(host.journal == self._hello.journal for host in hosts):
            for _ in range(int(FOREIGN_HOST_SECONDS / AGAIN_SECONDS)):
                try:
                    await asyncio.to_thread(self._check_no_writer)
                except OtherWriterError as error:
                    name = hosts[0].name
                    message = f"{error}: host {name}; give this service a database of its own"
                    raise ConfigurationError(message) from error
                self._on_waiting("making sure that no other server writes to this database")
                await asyncio.sleep(AGAIN_SECONDS)
        await self._report_silence(self._writer.submit(probe_write, None))

    def _check_no_writer(self) -> None:
        self._database.writing.connect().close()

    async def _report_silence(self, work: Awaitable[Result]) -> Result:
        """Return a step's result; report a step that takes longer than `SILENT_SECONDS`."""
        task = asyncio.ensure_future(work)
        done, _ = await asyncio.wait({task}, timeout=SILENT_SECONDS)
        if not done:
            self._on_waiting(f"cannot open database {self._database.name}: it does not answer")
        return await task

    def _report_unavailable(self, error: StoreUnavailableError) -> None:
        cause = str(error) if error.__cause__ is None else cause_of(error)
        self._on_waiting(str(error) if cause in str(error) else f"{error}: {cause}")

    async def load_tokens(self) -> tuple[list[token_store.Token], str | None]:
        """Return all tokens. If the database has no token, first store one.

        The stored token is the configured first token, or a random token if none is configured.

        Returns:
            All tokens, and the text of the random token; the text is None if no random token was
            made.
        """
        tokens = await self._reader.run(token_store.all_tokens)
        if tokens:
            return tokens, None
        configured = self._config.first_token
        text = configured or token_store.new_token_text()
        # Write the token to the file before the database. If the server dies between the two
        # writes, the next start replaces the file. In the other order, the database could have a
        # token that nobody knows.
        _write_token_file(self._config.data_dir, text)
        token = token_store.Token("admin", "admin", token_store.digest(text), now_us())
        await self._write_until_stored(token_store.add_token, token)
        # The user knows a configured token already, so only a random token is printed.
        return [token], None if configured else text

    async def take_host(self) -> int:
        """Store which keeper this host has now.

        If the database was restored, commands that are not final become lost. With the option
        ``start_queued``, queued commands do not become lost and may start.

        Returns:
            The journal position at which the recorder has to begin.
        """
        hello = self._hello
        place = _place(self._config.data_dir)
        known = await self._reader.run(host_store.find_host, self._config.host_name, hello.journal)
        restored = await self._is_restored(known, place)
        position = hello.first
        if known is not None and known.journal == hello.journal:
            position = max(hello.first, min(known.journal_position, hello.end))
        # The option applies to the start of the service, not to later restarts of its server.
        start_queued = self._config.start_queued and hello.first_start
        if restored:
            detail = "this database may be a copy: commands that are not final become lost"
            if start_queued:
                detail += ", but queued ones start"
            log.warning("restored", detail=detail)
        host = host_store.StoredHost(
            name=self._config.host_name,
            identity=hello.identity,
            journal=hello.journal,
            journal_position=position,
            place=place,
            version=__version__,
            last_seen_at=now_us(),
        )
        unchanged = known is not None and replace(known, last_seen_at=host.last_seen_at) == host
        if restored or not unchanged:
            # If nothing has changed since the last start, skip this write. So a restarted server
            # can start and answer reads even while the database takes no writes.
            taking = host_store.HostTakeover(host, restored, start_queued)
            await self._write_until_stored(host_store.take_over_host, taking)
        return position

    async def _is_restored(self, known: host_store.StoredHost | None, place: str) -> bool:
        """Return whether the database is a copy, or an older state of this host's database.

        Args:
            known: what the database knows about this host; None if it does not know the host.
            place: see `_place`.
        """
        hello = self._hello
        if known is None:
            return await self._reader.run(command_store.next_number) > 1
        if known.place != place or known.journal != hello.journal:
            return True
        if known.journal_position >= hello.recorded:
            return False
        # The database has lost its last commits. The cause may be a failover of the database while
        # this keeper ran. If the journal still contains the position that is in the database, it
        # has everything that the database lacks. Then the database does not count as restored.
        return known.identity != hello.identity or hello.first > known.journal_position

    async def _write_until_stored(self, job: Job[Item, Result], item: Item) -> Result:
        """Write an item and return the result; retry until the database takes the write."""
        return await until_stored(lambda: self._writer.submit(job, item), "start_waits")


def _place(data_dir: str) -> str:
    """Return a text that identifies a data directory: inode numbers of three files in it.

    A copy of the directory has different inode numbers.
    """
    return "/".join(
        str(os.stat(os.path.join(data_dir, name)).st_ino) for name in ("lock", "journal", "private")
    )


def _write_token_file(directory: str, text: str) -> None:
    """Write a token to the file ``token`` in a data directory, atomically, with mode 0600."""
    temporary = os.path.join(directory, ".token.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, os.path.join(directory, "token"))
