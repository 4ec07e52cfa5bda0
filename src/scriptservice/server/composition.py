"""Builds all parts of the server and connects them."""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from uuid import UUID

import structlog
from sqlalchemy import Connection
from starlette.types import ASGIApp

from scriptservice.errors import ConfigurationError, StoreError
from scriptservice.fleet.adoption import adopt_all
from scriptservice.fleet.dispatcher import Dispatcher
from scriptservice.fleet.local import Hello, LocalKeeper
from scriptservice.fleet.notifications import StatusChange, StoredChanges
from scriptservice.fleet.recorder import Recorder
from scriptservice.protocol.clock import now_us
from scriptservice.protocol.fault_points import reached
from scriptservice.protocol.log_lines import LogWriter
from scriptservice.server.access.page_sessions import PageSessions
from scriptservice.server.access.sign_in import AttemptLimiter, OneTimeCode, SignIn
from scriptservice.server.access.valid_tokens import ValidTokens
from scriptservice.server.application import build_application, openapi_document
from scriptservice.server.commands.command_input import CommandInput
from scriptservice.server.commands.command_service import CommandService
from scriptservice.server.commands.disk_space import DiskSpace
from scriptservice.server.commands.maxima import Maxima, SubmitDefaults
from scriptservice.server.commands.notifier import Notifier
from scriptservice.server.commands.output_removal import OutputRemover
from scriptservice.server.commands.retention import Retention, RetentionLimits
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
from scriptservice.server.telemetry.prometheus import Metrics
from scriptservice.server.telemetry.server_log import CommandLog
from scriptservice.server.websocket.attached_clients import AttachedClients
from scriptservice.store.database.connect import connect_database
from scriptservice.store.database.engine import Database
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import deletions, dispatching
from scriptservice.store.queries import sessions as session_store
from scriptservice.store.queries.idempotency import delete_old_requests
from scriptservice.store.queries.journal_changes import OtherDatabaseError
from scriptservice.store.queries.retention.finished_blocks import FinishedCommand
from scriptservice.store.reader import Reader
from scriptservice.store.reconnect_check import ReconnectCheck
from scriptservice.store.until_stored import until_stored
from scriptservice.store.writer import Writer
from scriptservice.version import __version__

REPLAY_SECONDS = 2.0
"""A starting server first stores the journal in the database. After this time it serves requests
even if a part of the journal is not stored yet."""

LOCK_SECONDS = 60.0
FORGET_SECONDS = 3600.0
"""Time between two removals of old Idempotency-Keys."""

_OTHER_DATABASE_EXIT = 75
_FAILED_EXIT = 70

log = structlog.get_logger()


def lock_database(data_dir: str) -> int:
    """Wait until no other server uses this data directory, and take the directory's server lock.

    The previous server may still hold the lock, because a killed process takes a moment to exit.

    Returns:
        The descriptor that holds the lock.

    Raises:
        ConfigurationError: another server still holds the lock after `LOCK_SECONDS`.
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
        config: the server's configuration.
        keeper: the connection to the keeper.
        hello: the greeting that the keeper has sent.

    Attributes:
        notifier: wakes the requests that follow commands.
        new_token: text of the random admin token that was made at this start; None if no token was
            made.
        sign_in_code: the one-time code of the sign-in link.
        host_info: this machine, as ``/v1/hosts`` shows it.
    """

    def __init__(self, config: ServerConfig, keeper: LocalKeeper, hello: Hello) -> None:
        self._config = config
        self._keeper = keeper
        self._hello = hello
        self._lock = lock_database(config.data_dir)
        self._database: Database = connect_database(config.database)
        self.notifier = Notifier()
        self._metrics = Metrics(__version__, hello.starts)
        self._command_log = CommandLog(
            LogWriter("server", config.host_name, config.log_format), config.log_level
        )
        self._continuity: Callable[[Connection], None] = lambda connection: None  # noqa: ARG005
        self._writer = Writer(
            self._database,
            asyncio.get_running_loop(),
            self._metrics.committed,
            on_connected=self._check_continuity,
            reached=reached,
        )
        self._reader = Reader(self._database)
        self._remover = OutputRemover(self._writer)
        self._retention = self._build_retention()
        self._cache = BlockCache(self._reader, self.notifier)
        self._tasks: list[asyncio.Task[None]] = []
        self.new_token: str | None = None
        self.sign_in_code = OneTimeCode()
        self.host_info = HostInfo(config.host_name, config.max_running, hello.pid)

    def _build_retention(self) -> Retention | None:
        config = self._config
        limits = RetentionLimits(config.keep_days, config.keep_commands, config.keep_output_bytes)
        if not limits.is_set:
            return None
        return Retention(
            limits,
            reader=self._reader,
            writer=self._writer,
            remover=self._remover,
            on_pruned=self._pruned,
        )

    async def start(self, on_waiting: Callable[[str], None]) -> ASGIApp:
        """Take over from the previous server, then return the application.

        Args:
            on_waiting: called with the reason whenever the start waits for the database.

        Raises:
            ConfigurationError: this release cannot use the database, or another server writes
                to it.
            StoreError: the database failed during the start.
        """
        database_startup = DatabaseStartup(
            self._config,
            self._hello,
            database=self._database,
            writer=self._writer,
            reader=self._reader,
            on_waiting=on_waiting,
        )
        await database_startup.open()
        stored_tokens, self.new_token = await database_startup.load_tokens()
        tokens = ValidTokens(stored_tokens)
        position = await database_startup.take_host()
        stored_sessions = await self._reader.run(session_store.all_sessions)
        sessions = PageSessions(tokens, self._writer, stored_sessions)
        await self._build_fleet(position)
        self._run(self._recorder.run())
        self._run(self._remover.run())
        self._run(self._forget_requests())
        self._run(sessions.run())
        self._run(self._take_over())
        # After nearly every restart, the whole journal is stored within this time. Then the first
        # answers are up to date. If it takes longer, an answer with old data is better than none.
        await asyncio.wait(self._tasks[-1:], timeout=REPLAY_SECONDS)
        return self._build_application(tokens, sessions)

    async def _build_fleet(self, position: int) -> None:
        """Build the recorder, the dispatcher, and the check that runs when the writer reconnects.

        Args:
            position: the journal position at which the recorder begins.
        """
        self._recorder = Recorder(
            self._keeper,
            self._writer,
            self._reader,
            position=position,
            on_stored=self._recorded,
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
        self._continuity = ReconnectCheck(
            self._hello.journal,
            self._hello.identity,
            acknowledged=lambda: self._recorder.position,
            number=lambda: self._dispatcher.next_number,
        )

    def _build_application(self, tokens: ValidTokens, sessions: PageSessions) -> ASGIApp:
        maxima = Maxima(
            timeout_seconds=self._config.max_timeout_seconds,
            grace_seconds=self._config.max_grace_seconds,
            output_limit_bytes=self._config.max_output_limit_bytes,
            script_bytes=self._config.max_script_bytes,
            interactive=self._config.max_interactive,
        )
        defaults = SubmitDefaults(output_limit_bytes=self._config.output_limit_bytes)
        commands = CommandService(
            reader=self._reader,
            writer=self._writer,
            dispatcher=self._dispatcher,
            recorder=self._recorder,
            transport=self._keeper,
            notifier=self.notifier,
            remover=self._remover,
            disk_space=DiskSpace(self._config.data_dir, self._config.min_free_bytes),
            maxima=maxima,
            on_ended=self._ended,
            on_deleted=self._deleted,
        )
        command_input = CommandInput(self._keeper, self._reader)
        services = Services(
            commands=commands,
            input=command_input,
            outputs=OutputService(self._reader, self.notifier, self._cache),
            events=EventStreams(self._reader, self.notifier),
            attached_clients=AttachedClients(
                self._reader, self.notifier, self._cache, command_input
            ),
            host=self.host_info,
            sessions=sessions,
            sign_in=SignIn(tokens, sessions, self.sign_in_code, AttemptLimiter()),
            metrics=self._metrics,
            gauges=Gauges(self._reader, self._keeper, self._recorder, self.notifier),
            page=PageFiles(package_directory()),
            bodies=BodyBudget(),
            submit_defaults=maxima.lower(defaults),
            openapi=openapi_document,
        )
        return build_application(services, tokens, self._config.hosts)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_end_if_failed)
        self._tasks.append(task)

    def _check_continuity(self, connection: Connection) -> None:
        """End the process if the writer has reconnected to a different database."""
        try:
            self._continuity(connection)
        except OtherDatabaseError as error:
            # End at once, because this server must not write to the other database. The next server
            # checks at its start whether the database was restored.
            log.error("other_database", error=str(error))
            os._exit(_OTHER_DATABASE_EXIT)

    async def _take_over(self) -> None:
        """Store the journal, adopt the open commands of earlier servers, then send commands."""
        held: frozenset[str] | None = None
        end = self._hello.end
        try:
            found = await self._keeper.held_commands()
            held, end = found.commands, max(end, found.end)
        except TimeoutError:
            log.warning("adoption_waits", error="the keeper does not say what it holds")
        await self._recorder.wait_until_stored(end)
        # From here on, an unreadable part of the journal ends this server. The next server then
        # asks the keeper which commands the keeper holds, before it sends any command again.
        self._recorder.skip_unreadable = False
        await adopt_all(self._reader, self._dispatcher, held)
        self._run(self._dispatcher.run())
        # Complete the removals that an earlier server did not complete.
        deleted = await until_stored(
            lambda: self._reader.run(deletions.deleted_numbers), "removal_waits"
        )
        for number in deleted:
            self._remover.remove(number)
        if self._retention is not None:
            self._run(self._retention.run())

    async def _forget_requests(self) -> None:
        """Remove old Idempotency-Keys every hour, until cancelled."""
        while True:
            with suppress(StoreError):  # after an error, the next round removes the keys
                await self._writer.submit(delete_old_requests, now_us())
            await asyncio.sleep(FORGET_SECONDS)

    # Callbacks

    def _recorded(self, recorded: StoredChanges) -> None:
        ended: dict[UUID, StatusChange | None] = dict.fromkeys(recorded.ended)
        ended |= {step.command_id: step for step in recorded.status_changes if step.status.final}
        self.notifier.notify(recorded.changed, ended=ended)
        self._dispatcher.changes_stored(recorded)
        self._metrics.recorded(recorded)
        self._command_log.recorded(recorded)
        if self._retention is not None:
            self._retention.ended(recorded.ended)

    def _ended(self, step: StatusChange) -> None:
        self.notifier.notify([step.command_id])
        self._metrics.status_changed(step)
        self._command_log.status_changed(step)
        if self._retention is not None:
            self._retention.ended([step.command_id])

    def _deleted(self, command_id: UUID, number: int) -> None:
        self._cache.forget({command_id})
        self.notifier.notify([command_id])
        self._command_log.deleted(command_id)
        if self._retention is not None:
            self._retention.deleted(number)

    def _pruned(self, pruned: Sequence[FinishedCommand]) -> None:
        ids = {command.id for command in pruned}
        self._cache.forget(ids)
        self.notifier.notify(ids)
        self._metrics.pruned(len(pruned), sum(command.stored_bytes for command in pruned))

    # The end

    def shutting_down(self) -> None:
        """Start no more commands, because the keeper has begun to stop all scripts."""
        self.host_info.status = "draining"
        self._dispatcher.close()
        self.notifier.drain()

    async def finish(self, position: int) -> None:
        """Store the rest of the journal. Then remove the marks of commands that did not start.

        These commands wait in the queue again, or become stopped if a stop was requested.
        ``server_process`` calls this method after all scripts have ended.

        Args:
            position: the end of the journal, as a journal position.
        """
        await self._recorder.wait_until_stored(position)
        try:
            requeue = dispatching.Requeue(self._hello.identity, now_us())
            await self._writer.submit(dispatching.requeue_unstarted, requeue)
        except StoreError as error:
            # Commands that were marked for the keeper but never reached it keep their marks. So
            # they become lost at the next start. Only a few commands can be in that state.
            log.warning("unmark_failed", error=str(error))
        self.notifier.close()

    async def close(self) -> None:
        """End the background tasks, and close the database's threads and connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._writer.close()
        self._reader.close()
        self._database.close()


def _end_if_failed(task: "asyncio.Task[None]") -> None:
    """End the process if a background task has failed. The keeper then starts another server."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("server_failed", exc_info=error)
        os._exit(_FAILED_EXIT)
