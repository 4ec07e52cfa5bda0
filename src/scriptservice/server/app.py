"""The composition root of the server: builds every concrete thing and says who knows whom."""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar
from uuid import UUID

import structlog
from fastapi import FastAPI
from starlette.routing import Route

from scriptservice import __version__
from scriptservice.errors import (
    ConfigurationError,
    OtherWriterError,
    StoreError,
    StoreUnavailableError,
)
from scriptservice.fleet.adoption import adopt_all
from scriptservice.fleet.dispatcher import Dispatcher
from scriptservice.fleet.local import Hello, LocalKeeper
from scriptservice.fleet.news import Recorded, Step
from scriptservice.fleet.recorder import Recorder
from scriptservice.keeper.journal import now_us
from scriptservice.keeper.lines import Lines
from scriptservice.server import openapi, problems
from scriptservice.server.auth import TokenCheck, write_token_file
from scriptservice.server.commands import Commands
from scriptservice.server.config import ServerConfig
from scriptservice.server.events import Events
from scriptservice.server.feed import Feed
from scriptservice.server.gauges import Gauges
from scriptservice.server.head import HeadAsGet
from scriptservice.server.logs import CommandLog
from scriptservice.server.meter import Meter
from scriptservice.server.metrics import Metrics
from scriptservice.server.remover import Remover
from scriptservice.server.routes import commands as command_routes
from scriptservice.server.routes import events as event_routes
from scriptservice.server.routes import health as health_routes
from scriptservice.server.routes import hosts as host_routes
from scriptservice.server.routes import metrics as metrics_routes
from scriptservice.server.routes import output as output_routes
from scriptservice.store import commands as command_store
from scriptservice.store import dispatching, requests
from scriptservice.store import hosts as host_store
from scriptservice.store import tokens as token_store
from scriptservice.store.engine import Database, connect_database, write_nothing
from scriptservice.store.idempotency import forget_old_requests
from scriptservice.store.reader import Reader
from scriptservice.store.schema import prepare_schema
from scriptservice.store.writer import Job, Writer, cause_of

REPLAY_SECONDS = 2.0
LOCK_SECONDS = 60.0
WRITER_SECONDS = 25.0
STORE_SECONDS = 0.5
FORGET_SECONDS = 3600.0

Item = TypeVar("Item")
Result = TypeVar("Result")

log = structlog.get_logger()


@dataclass(slots=True)
class Here:
    """This machine as ``/v1/hosts`` shows it."""

    name: str
    capacity: int | None
    keeper_pid: int
    child_pid: int = field(default_factory=os.getpid)
    status: str = "up"

    def seen_at(self) -> int:
        """Return when it was last seen: the keeper's death would end this process too."""
        return now_us()


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
        self.feed = Feed()
        self._metrics = Metrics(__version__, hello.starts)
        self._command_log = CommandLog(
            Lines("server", config.host_name, config.log_format), config.log_level
        )
        self._writer = Writer(self._database, asyncio.get_running_loop(), self._metrics.committed)
        self._reader = Reader(self._database)
        self._remover = Remover(self._writer)
        self._tasks: list[asyncio.Task[None]] = []
        self.new_token: str | None = None
        self.here = Here(config.host_name, config.max_running, hello.pid)

    async def start(self, on_waiting: Callable[[str], None]) -> FastAPI:
        """Take over what an earlier server left, then return the application.

        Args:
            on_waiting: told why it takes long, whenever the database is the reason.

        Raises:
            ConfigurationError: the database is not one to work with.
            StoreError: it went away in the midst of this.
        """
        await self._open_store(on_waiting)
        tokens = await self._tokens()
        await self._take_host()
        self._recorder = Recorder(
            self._keeper,
            self._writer,
            self._reader,
            position=self._position,
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
        self._run(self._recorder.run())
        self._run(self._remover.run())
        self._run(self._forget_requests())
        self._run(self._take_over())
        # Long enough that nearly every restart answers with what is true now, and no longer:
        # behind a long journal the service is better up and late than down.
        await asyncio.wait(self._tasks[-1:], timeout=REPLAY_SECONDS)
        commands = Commands(
            reader=self._reader,
            writer=self._writer,
            dispatcher=self._dispatcher,
            recorder=self._recorder,
            transport=self._keeper,
            feed=self.feed,
            events=Events(self._reader, self.feed),
            remover=self._remover,
            data_dir=self._config.data_dir,
            min_free_bytes=self._config.min_free_bytes,
            on_ended=self._ended,
            on_deleted=self._deleted,
        )
        gauges = Gauges(self._reader, self._keeper, self._recorder, self.feed)
        return build_app(commands, self.here, tokens, self._metrics, gauges)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_end_if_failed)
        self._tasks.append(task)

    async def _open_store(self, on_waiting: Callable[[str], None]) -> None:
        """Wait until the database is there, has the right schema and is ours to write.

        Raises:
            ConfigurationError: it is not to be used as it is, or another server writes to it and
                goes on doing so. Who waited for long would take its place when it is only
                restarted, and what runs there would be lost.
        """
        deadline = time.monotonic() + WRITER_SECONDS
        while True:
            try:
                await asyncio.to_thread(
                    prepare_schema, self._database, migrate=self._config.migrate
                )
                if not self._database.migrates_itself:
                    # What an earlier server had sent is committed or not from here on. A SQLite
                    # file is ours by the lock; on a full disk it can be read though not written.
                    await self._writer.submit(write_nothing, None)
            except OtherWriterError as error:
                if time.monotonic() > deadline:
                    raise ConfigurationError(str(error)) from error
                on_waiting(str(error))
            except StoreUnavailableError as error:
                deadline = time.monotonic() + WRITER_SECONDS
                reason = str(error) if error.__cause__ is None else cause_of(error)
                on_waiting(f"{error}" if reason in str(error) else f"{error}: {reason}")
                await asyncio.sleep(STORE_SECONDS)
            else:
                return

    async def _tokens(self) -> list[token_store.Token]:
        tokens = await self._reader.run(token_store.all_tokens)
        if tokens:
            return tokens
        given = self._config.first_token
        text = given or token_store.new_token_text()
        # The file first: a crash in between leaves a file that the next start replaces, not a
        # token that nobody knows.
        write_token_file(self._config.data_dir, text)
        token = token_store.Token("admin", "admin", token_store.digest(text), now_us())
        await self._writer.submit(token_store.add_token, token)
        # Who gave it knows it: the log need not.
        self.new_token = None if given else text
        return [token]

    async def _take_host(self) -> None:
        """Note which keeper this host has now; where the database is older, nothing may start."""
        place = _place(self._config.data_dir)
        hello = self._hello
        known = await self._reader.run(host_store.find_host, self._config.host_name, hello.journal)
        self._position = hello.first
        restored = False
        if known is not None:
            same = known.place == place and known.journal == hello.journal
            restored = not same or known.journal_position < hello.recorded
            if known.journal == hello.journal:
                self._position = max(hello.first, min(known.journal_position, hello.end))
        elif await self._reader.run(command_store.next_number) > 1:
            restored = True
        if restored:
            detail = "this database may be a copy: what is not final is lost"
            if self._config.start_queued:
                detail += ", but what waited starts"
            log.warning("restored", detail=detail)
        host = host_store.Host(
            name=self._config.host_name,
            identity=hello.identity,
            journal=hello.journal,
            journal_position=self._position,
            place=place,
            version=__version__,
            last_seen_at=now_us(),
        )
        as_before = known is not None and replace(known, last_seen_at=host.last_seen_at) == host
        if as_before and not restored:
            return  # at a plain restart reads go on even though nothing can be written
        await self._patiently(
            host_store.take_host, host_store.Taking(host, restored, self._config.start_queued)
        )

    async def _patiently(self, job: Job[Item, Result], item: Item) -> Result:
        """Write what has to be written, however long the store takes nothing."""
        while True:
            try:
                return await self._writer.submit(job, item)
            except StoreError as error:
                log.warning("start_waits", error=str(error))
                await asyncio.sleep(STORE_SECONDS)

    async def _take_over(self) -> None:
        """Bring the journal home, then decide on what was left open, then begin to dispatch."""
        await self._recorder.caught_up(self._hello.end)
        await adopt_all(self._reader, self._dispatcher)
        self._run(self._dispatcher.run())
        while True:
            try:
                deleted = await self._reader.run(requests.deleted_numbers)
            except StoreError as error:
                log.warning("removal_waits", error=str(error))
                await asyncio.sleep(STORE_SECONDS)
            else:
                break
        for number in deleted:
            self._remover.remove(number)

    async def _forget_requests(self) -> None:
        """Remove old Idempotency-Keys now and then, until cancelled."""
        while True:
            with suppress(StoreError):  # the next time will do
                await self._writer.submit(forget_old_requests, now_us())
            await asyncio.sleep(FORGET_SECONDS)

    def _recorded(self, news: Recorded) -> None:
        self.feed.notify(news.changed)
        self._dispatcher.recorded(news)
        self._metrics.recorded(news)
        self._command_log.recorded(news)

    def _ended(self, step: Step) -> None:
        self.feed.notify([step.command])
        self._metrics.stepped(step)
        self._command_log.stepped(step)

    def _deleted(self, command: UUID) -> None:
        self.feed.notify([command])
        self._command_log.deleted(command)

    def shutting_down(self) -> None:
        """The keeper ends its scripts: nothing new starts."""
        self.here.status = "draining"
        self._dispatcher.close()
        self.feed.drain()

    async def finish(self, position: int) -> None:
        """All scripts have ended: record the rest, let what never started wait again, close.

        Args:
            position: the journal's last.
        """
        await self._recorder.caught_up(position)
        await self._writer.submit(dispatching.unmark, self._hello.identity)
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


def _place(data_dir: str) -> str:
    """Return what tells a data directory from a copy of it: numbers that a copy gets anew."""
    return "/".join(
        str(os.stat(os.path.join(data_dir, name)).st_ino) for name in ("lock", "journal", "private")
    )


def build_app(
    commands: Commands,
    here: Here,
    tokens: list[token_store.Token],
    metrics: Metrics,
    gauges: Gauges,
) -> FastAPI:
    """Return the application.

    Args:
        commands: the service's verbs.
        here: this machine.
        tokens: who may ask.
        metrics: what is counted.
        gauges: what is true at the moment.
    """
    app = FastAPI(
        title="ScriptService",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.commands = commands
    app.state.here = here
    app.state.metrics = metrics
    app.state.gauges = gauges
    routers = [
        module.router
        for module in (
            command_routes,
            output_routes,
            event_routes,
            host_routes,
            health_routes,
            metrics_routes,
        )
    ]
    # FastAPI keeps routers whole and does not say what is in them; a 405 has to.
    app.state.routes = [route for router in routers for route in router.routes]
    for router in routers:
        app.include_router(router)
    # The hot route once more, without FastAPI's layers around it: it takes the request as it is
    # and returns a ready response, and they are an eighth of what a submit costs.
    app.router.routes.insert(0, Route("/v1/commands", command_routes.submit, methods=["POST"]))
    problems.install(app)
    openapi.install(app)
    app.add_middleware(TokenCheck, tokens=tokens)
    app.add_middleware(HeadAsGet)
    app.add_middleware(Meter, routes=app.state.routes, answered=metrics.answered)
    return app
