"""What a server does with its database before it works: waits for it, makes sure of it, takes over.

`server.app` calls the steps in their order. Nothing here knows HTTP.
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
from scriptservice.server.access.authentication import write_token_file
from scriptservice.server.startup.server_config import ServerConfig
from scriptservice.store.database.engine import Database, write_nothing
from scriptservice.store.database.schema import prepare_schema
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import hosts as host_store
from scriptservice.store.queries import tokens as token_store
from scriptservice.store.reader import Reader
from scriptservice.store.until_stored import AGAIN_SECONDS, until_stored
from scriptservice.store.writer import Job, Writer, cause_of
from scriptservice.version import __version__

SILENT_SECONDS = 2.0
STRANGER_SECONDS = 10.0

Item = TypeVar("Item")
Result = TypeVar("Result")

log = structlog.get_logger()


class DatabaseStartup:
    """The steps between a server's start and its work.

    Args:
        config: what it is told.
        hello: the keeper's greeting.
        database: what it is to work with.
        writer: of it.
        reader: of it.
        on_waiting: told why it takes long, whenever the database is the reason.
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
        """Wait until the database is there, has the right schema and is ours to write.

        Raises:
            ConfigurationError: it is not to be used as it is, or another server writes to it.
        """
        await until_stored(self._try_to_open, None)

    async def _try_to_open(self) -> None:
        try:
            await self._answered(
                asyncio.to_thread(prepare_schema, self._database, migrate=self._config.migrate)
            )
            if self._database.writes_by_session:
                await self._become_writer()
        except StoreUnavailableError as error:
            self._wait_for(error)
            raise

    async def _become_writer(self) -> None:
        """Take the right to write: what an earlier server had sent is committed or not from here.

        A stranger to a database takes it only if nobody has written for a while. One that took it
        at once would take it from a server that is just being restarted, and what runs there
        would be lost.
        """
        hosts = await self._reader.run(host_store.all_hosts)
        if hosts and not any(self._is_ours(host) for host in hosts):
            for _ in range(int(STRANGER_SECONDS / AGAIN_SECONDS)):
                try:
                    await asyncio.to_thread(self._try_to_write)
                except OtherWriterError as error:
                    name = hosts[0].name
                    message = f"{error}: host {name}; give this one a database of its own"
                    raise ConfigurationError(message) from error
                self._on_waiting("making sure that no other server writes to this database")
                await asyncio.sleep(AGAIN_SECONDS)
        await self._answered(self._writer.submit(write_nothing, None))

    def _is_ours(self, host: host_store.Host) -> bool:
        return host.journal == self._hello.journal

    def _try_to_write(self) -> None:
        self._database.writing.connect().close()

    async def _answered(self, work: Awaitable[Result]) -> Result:
        """Wait for a step, and say so if the database is silent."""
        task = asyncio.ensure_future(work)
        done, _ = await asyncio.wait({task}, timeout=SILENT_SECONDS)
        if not done:
            self._on_waiting(f"cannot open database {self._database.name}: it does not answer")
        return await task

    def _wait_for(self, error: StoreUnavailableError) -> None:
        cause = str(error) if error.__cause__ is None else cause_of(error)
        self._on_waiting(str(error) if cause in str(error) else f"{error}: {cause}")

    async def tokens(self) -> tuple[list[token_store.Token], str | None]:
        """Return all tokens, and the text of one that was just made and that nobody knows yet."""
        tokens = await self._reader.run(token_store.all_tokens)
        if tokens:
            return tokens, None
        given = self._config.first_token
        text = given or token_store.new_token_text()
        # The file first: a crash in between leaves a file that the next start replaces, not a
        # token that nobody knows.
        write_token_file(self._config.data_dir, text)
        token = token_store.Token("admin", "admin", token_store.digest(text), now_us())
        await self._patiently(token_store.add_token, token)
        # Who gave it knows it: the log need not.
        return [token], None if given else text

    async def take_host(self) -> int:
        """Note which keeper this host has now; where the database is older, nothing may start.

        Returns:
            From which position the journal is to be recorded.
        """
        hello = self._hello
        place = _place(self._config.data_dir)
        known = await self._reader.run(host_store.find_host, self._config.host_name, hello.journal)
        restored = await self._is_restored(known, place)
        position = hello.first
        if known is not None and known.journal == hello.journal:
            position = max(hello.first, min(known.journal_position, hello.end))
        # A wish for the service's start, and not for what happens in its life.
        start_queued = self._config.start_queued and hello.first_start
        if restored:
            detail = "this database may be a copy: what is not final is lost"
            if start_queued:
                detail += ", but what waited starts"
            log.warning("restored", detail=detail)
        host = host_store.Host(
            name=self._config.host_name,
            identity=hello.identity,
            journal=hello.journal,
            journal_position=position,
            place=place,
            version=__version__,
            last_seen_at=now_us(),
        )
        as_before = known is not None and replace(known, last_seen_at=host.last_seen_at) == host
        if restored or not as_before:
            # At a plain restart reads go on even though nothing can be written.
            taking = host_store.Taking(host, restored, start_queued)
            await self._patiently(host_store.take_host, taking)
        return position

    async def _is_restored(self, known: host_store.Host | None, place: str) -> bool:
        """Whether the database is a copy, or older than what this host has done."""
        hello = self._hello
        if known is None:
            return await self._reader.run(command_store.next_number) > 1
        if known.place != place or known.journal != hello.journal:
            return True
        if known.journal_position >= hello.recorded:
            return False
        # A failover in the life of this keeper: if its journal reaches back to where the database
        # is, it tells of everything that the database lacks.
        return known.identity != hello.identity or hello.first > known.journal_position

    async def _patiently(self, job: Job[Item, Result], item: Item) -> Result:
        """Write what has to be written, however long the store takes nothing."""
        return await until_stored(lambda: self._writer.submit(job, item), "start_waits")


def _place(data_dir: str) -> str:
    """Return what tells a data directory from a copy of it: numbers that a copy gets anew."""
    return "/".join(
        str(os.stat(os.path.join(data_dir, name)).st_ino) for name in ("lock", "journal", "private")
    )
