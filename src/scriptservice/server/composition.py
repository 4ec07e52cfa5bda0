"""The composition root of the server: builds every concrete thing and says who knows whom."""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

import structlog
from sqlalchemy import Connection
from starlette.types import ASGIApp

from scriptservice.errors import (
    ConfigurationError,
    StoreError,
)
from scriptservice.fleet.adoption import adopt_all
from scriptservice.fleet.dispatcher import Dispatcher
from scriptservice.fleet.local import Hello, LocalKeeper
from scriptservice.fleet.notifications import Recorded, Step
from scriptservice.fleet.recorder import Recorder
from scriptservice.protocol.clock import now_us
from scriptservice.protocol.fault_points import reached
from scriptservice.protocol.log_lines import Lines
from scriptservice.server.access.page_sessions import PageSessions
from scriptservice.server.access.sign_in import AttemptLimiter, OneTimeCode, SignIn
from scriptservice.server.access.valid_tokens import ValidTokens
from scriptservice.server.application import build_application, openapi_document
from scriptservice.server.commands.command_service import CommandService
from scriptservice.server.commands.notifier import Notifier
from scriptservice.server.commands.output_removal import OutputRemover
from scriptservice.server.http.body_budget import BodyBudget
from scriptservice.server.output.block_cache import BlockCache
from scriptservice.server.output.event_stream import EventStreams
from scriptservice.server.output.output_service import OutputService
from scriptservice.server.page.page_files import PageFiles, package_directory
from scriptservice.server.routes.route import Services
from scriptservice.server.startup.database_startup import DatabaseStartup
from scriptservice.server.startup.server_config import ServerConfig
from scriptservice.server.telemetry.gauges import Gauges
from scriptservice.server.telemetry.host_info import HostInfo
from scriptservice.server.telemetry.metrics import Metrics
from scriptservice.server.telemetry.server_log import CommandLog
from scriptservice.store.continuity import Continuity
from scriptservice.store.database.connect import connect_database
from scriptservice.store.database.engine import Database
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import dispatching, requests
from scriptservice.store.queries import sessions as session_store
from scriptservice.store.queries.idempotency import forget_old_requests
from scriptservice.store.queries.journal_changes import OtherDatabaseError
from scriptservice.store.reader import Reader
from scriptservice.store.until_stored import until_stored
from scriptservice.store.writer import Writer
from scriptservice.version import __version__

REPLAY_SECONDS = 2.0
LOCK_SECONDS = 60.0
WRITER_SECONDS = 25.0
FORGET_SECONDS = 3600.0

Item = TypeVar("Item")
Result = TypeVar("Result")

log = structlog.get_logger()


def lock_database(data_dir: str) -> int:
    """Wait until no other server writes to the database; return what holds the lock.

    A server that was killed, or whose keeper was, may take a moment to be gone.

    Raises:
        ConfigurationError: another one stays.
    """
    path = os.path.join(data_dir, "server.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() > deadline:
                os.close(descriptor)
                message = f"cannot open the database: another server holds {path}"
                raise ConfigurationError(message) from error
            time.sleep(0.02)
        else:
            return descriptor


class Server:
    """All parts of the server, built and connected.

    Args:
        config: what it is told.
        keeper: connected; has greeted.
        hello: its greeting.
    """

    def __init__(self, config: ServerConfig, keeper: LocalKeeper, hello: Hello) -> None:
        self._config = config
        self._keeper = keeper
        self._hello = hello
        self._lock = lock_database(config.data_dir)
        self._database: Database = connect_database(config.database)
        self.feed = Notifier()
        self._metrics = Metrics(__version__, hello.starts)
        self._command_log = CommandLog(
            Lines("server", config.host_name, config.log_format), config.log_level
        )
        self._continuity: Callable[[Connection], None] = lambda connection: None  # noqa: ARG005
        self._writer = Writer(
            self._database,
            asyncio.get_running_loop(),
            self._metrics.committed,
            on_connected=self._continues,
            reached=reached,
        )
        self._reader = Reader(self._database)
        self._remover = OutputRemover(self._writer)
        self._parts = BlockCache(self._reader, self.feed)
        self._tasks: list[asyncio.Task[None]] = []
        self.new_token: str | None = None
        self.code = OneTimeCode()
        self.host_info = HostInfo(config.host_name, config.max_running, hello.pid)

    async def start(self, on_waiting: Callable[[str], None]) -> ASGIApp:
        """Take over what an earlier server left, then return the application.

        Args:
            on_waiting: told why it takes long, whenever the database is the reason.

        Raises:
            ConfigurationError: the database is not one to work with.
            StoreError: it went away in the midst of this.
        """
        opening = DatabaseStartup(
            self._config,
            self._hello,
            database=self._database,
            writer=self._writer,
            reader=self._reader,
            on_waiting=on_waiting,
        )
        await opening.open()
        known, self.new_token = await opening.tokens()
        tokens = ValidTokens(known)
        position = await opening.take_host()
        stored = await self._reader.run(session_store.all_sessions)
        sessions = PageSessions(tokens, self._writer, stored)
        self._recorder = Recorder(
            self._keeper,
            self._writer,
            self._reader,
            position=position,
            on_recorded=self._recorded,
        )
        self._dispatcher = Dispatcher(
            self._keeper,
            self._recorder,
            self._writer,
            self._reader,
            next_number=await self._reader.run(command_store.next_number),
            max_running=self._config.max_running,
            on_stored=self._command_log.stored,
            on_ended=self._ended,
        )
        self._continuity = Continuity(
            self._hello.journal,
            self._hello.identity,
            acknowledged=lambda: self._recorder.position,
            number=lambda: self._dispatcher.next_number,
        )
        self._run(self._recorder.run())
        self._run(self._remover.run())
        self._run(self._forget_requests())
        self._run(sessions.run())
        self._run(self._take_over())
        # Long enough that nearly every restart answers with what is true now, and no longer:
        # behind a long journal the service is better up and late than down.
        await asyncio.wait(self._tasks[-1:], timeout=REPLAY_SECONDS)
        commands = CommandService(
            reader=self._reader,
            writer=self._writer,
            dispatcher=self._dispatcher,
            recorder=self._recorder,
            transport=self._keeper,
            feed=self.feed,
            remover=self._remover,
            data_dir=self._config.data_dir,
            min_free_bytes=self._config.min_free_bytes,
            on_ended=self._ended,
            on_deleted=self._deleted,
        )
        services = Services(
            commands=commands,
            outputs=OutputService(self._reader, self.feed, self._parts),
            events=EventStreams(self._reader, self.feed),
            host=self.host_info,
            sessions=sessions,
            sign_in=SignIn(tokens, sessions, self.code, AttemptLimiter()),
            metrics=self._metrics,
            gauges=Gauges(self._reader, self._keeper, self._recorder, self.feed),
            page=PageFiles(package_directory()),
            bodies=BodyBudget(),
            openapi=openapi_document,
        )
        return build_application(services, tokens, self._config.hosts)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_end_if_failed)
        self._tasks.append(task)

    def _continues(self, connection: Connection) -> None:
        """End the process if the writer has connected to another database than before."""
        try:
            self._continuity(connection)
        except OtherDatabaseError as error:
            # The next server takes it over as what it is; nothing is done in it before.
            log.error("other_database", error=str(error))
            os._exit(75)

    async def _take_over(self) -> None:
        """Bring the journal home, then decide on what was left open, then begin to dispatch."""
        held: frozenset[str] | None = None
        end = self._hello.end
        try:
            found = await self._keeper.held()
            held, end = found.commands, max(end, found.end)
        except TimeoutError:
            log.warning("adoption_waits", error="the keeper does not say what it has")
        await self._recorder.caught_up(end)
        # From here on a part of the journal that cannot be read ends this server: the next one
        # learns from the keeper what became of the commands in it, before it sends any again.
        self._recorder.catches_up = False
        await adopt_all(self._reader, self._dispatcher, held)
        self._run(self._dispatcher.run())
        deleted = await until_stored(
            lambda: self._reader.run(requests.deleted_numbers), "removal_waits"
        )
        for number in deleted:
            self._remover.remove(number)

    async def _forget_requests(self) -> None:
        """Remove old Idempotency-Keys now and then, until cancelled."""
        while True:
            with suppress(StoreError):  # the next time will do
                await self._writer.submit(forget_old_requests, now_us())
            await asyncio.sleep(FORGET_SECONDS)

    def _recorded(self, news: Recorded) -> None:
        ended: dict[UUID, Step | None] = dict.fromkeys(news.ended)
        ended |= {step.command: step for step in news.steps if step.status.final}
        self.feed.notify(news.changed, ended=ended)
        self._dispatcher.recorded(news)
        self._metrics.recorded(news)
        self._command_log.recorded(news)

    def _ended(self, step: Step) -> None:
        self.feed.notify([step.command])
        self._metrics.stepped(step)
        self._command_log.stepped(step)

    def _deleted(self, command: UUID) -> None:
        self._parts.forget(command)
        self.feed.notify([command])
        self._command_log.deleted(command)

    def shutting_down(self) -> None:
        """The keeper ends its scripts: nothing new starts."""
        self.host_info.status = "draining"
        self._dispatcher.close()
        self.feed.drain()

    async def finish(self, position: int) -> None:
        """All scripts have ended: record the rest, let what never started wait again, close.

        Args:
            position: the journal's last.
        """
        await self._recorder.caught_up(position)
        try:
            await self._writer.submit(dispatching.unmark, self._hello.identity)
        except StoreError as error:
            # What was marked and never seen by the keeper is lost then; it cannot be many.
            log.warning("unmark_failed", error=str(error))
        self.feed.close()

    async def close(self) -> None:
        """End the background work and the database's threads and connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._writer.close()
        self._reader.close()
        self._database.close()


def _end_if_failed(task: "asyncio.Task[None]") -> None:
    """End the process if work it cannot do without has failed: the keeper starts it anew."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("server_failed", exc_info=error)
        os._exit(70)
