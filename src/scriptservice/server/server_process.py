"""The server's process: from inherited descriptors to serving, and to its end in order."""

import asyncio
import ctypes
import gc
import json
import os
import resource
import socket
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import structlog
import uvicorn

from scriptservice.errors import ConfigurationError, StoreError
from scriptservice.fleet.local import LocalKeeper
from scriptservice.protocol.log_lines import Lines
from scriptservice.server.access.sign_in import CODE_SECONDS
from scriptservice.server.composition import Server
from scriptservice.server.http.client_protocol import TICKS, ClientProtocol, TimeoutCheck
from scriptservice.server.http.connection_limits import ConnectionLimits, connection_limit
from scriptservice.server.http.response_headers import FIXED, DefaultHeaders
from scriptservice.server.startup.server_config import ServerConfig
from scriptservice.server.startup.startup_gate import StartupGate
from scriptservice.server.startup.takeover import prepare, retire
from scriptservice.server.telemetry.server_log import start_logging
from scriptservice.store.database.engine import Database
from scriptservice.store.writer import cause_of
from scriptservice.version import __version__

GRACE_SECONDS = 3
COLLECT_AFTER = 20_000
LARGE_BUFFER_BYTES = 128 << 10
_M_MMAP_THRESHOLD = -3
_CONFIGURATION_EXIT = 78
_AGAIN_EXIT = 75

log = structlog.get_logger()


class _Uvicorn(uvicorn.Server):
    """Uvicorn that leaves signals to the keeper, and says when it serves.

    Args:
        config: uvicorn's.
        clients: all connections.

    Attributes:
        is_up: set once it accepts connections.
    """

    def __init__(self, config: uvicorn.Config, clients: ConnectionLimits) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()
        self._punctuality = TimeoutCheck()
        self._listening: list[socket.socket] = []
        self._accepting: asyncio.Task[None] | None = None
        self._clients = clients
        clients.on_full = self._leave_in_backlog
        clients.on_room = self._accept_again

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        self._listening = sockets or []
        # Uvicorn's listener owns its socket and closes it; the keeper's stays open.
        await super().startup([each.dup() for each in self._listening])
        self.is_up.set()

    def accept_no_more(self) -> None:
        """Leave new connections to the next server."""
        self._listening = []

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        self.accept_no_more()
        await super().shutdown(sockets)

    def _leave_in_backlog(self) -> None:
        log.warning("connections_full")
        for server in self.servers:
            server.close()
        self.servers = []

    def _accept_again(self) -> None:
        self._accepting = asyncio.create_task(self._accept())

    async def _accept(self) -> None:
        if self._listening and not self.servers:
            log.info("connections_accepted")
            await super().startup([each.dup() for each in self._listening])

    async def on_tick(self, counter: int) -> bool:
        """See `uvicorn.Server`."""
        if counter % TICKS == 0:
            self._punctuality.look(self.server_state.connections)
            self._clients.look()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: the keeper says when to end."""
        yield


def main(*, keeper: int, listener: int, config: int, passive: bool = False) -> int:
    """Serve until the keeper says to end, or is gone; return the exit code.

    Args:
        keeper: descriptor of the socket to it.
        listener: descriptor of the listening socket.
        config: descriptor of a file with a `ServerConfig` as JSON.
        passive: prepare, and touch nothing before the keeper's first words.
    """
    with os.fdopen(config, "rb") as file:
        told = ServerConfig(**json.load(file))
    _raise_limit()
    _give_memory_back()
    start_logging(Lines("server", told.host_name, told.log_format), told.log_level)
    with asyncio.Runner(loop_factory=_uvloop) as runner:
        return runner.run(
            _live(told, socket.socket(fileno=keeper), socket.socket(fileno=listener), passive)
        )


def _raise_limit() -> None:
    """Take as many descriptors as are permitted: each connection needs one.

    No script is started here, which would inherit this.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _give_memory_back() -> None:
    """Let the C library return large buffers to the kernel as soon as they are freed.

    By itself it learns from each large buffer that is freed to take the next of its size from the
    heap, where what lies behind it keeps it resident: 120 MiB after six bodies of 17 MiB.
    """
    with suppress(OSError, AttributeError):  # not the GNU library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BUFFER_BYTES)


async def _live(
    config: ServerConfig,
    keeper: socket.socket,
    listener: socket.socket,
    passive: bool,  # noqa: FBT001 - one caller
) -> int:
    return await _Life(config, listener).run(keeper, passive=passive)


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class _Life:
    """One server, from the keeper's first words to the end.

    Args:
        config: what it is told.
        listener: the listening socket.
    """

    def __init__(self, config: ServerConfig, listener: socket.socket) -> None:
        self._config = config
        self._listener = listener
        self._gate = StartupGate(config.hosts)
        self._waits = asyncio.Event()
        self._waits_for = ""
        self._finished: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._draining = False
        self._started: Server | None = None
        self._link = LocalKeeper(
            config.host_name,
            on_shutdown=self._shutting_down,
            on_finish=self._finish,
            on_retire=lambda: self._finish(None),
            # Its scripts and its journal are gone from us; another keeper starts another server.
            on_gone=lambda: os._exit(0),
        )

    async def run(self, keeper: socket.socket, *, passive: bool) -> int:
        """Serve to the end; return the exit code.

        Args:
            keeper: the socket to it.
            passive: prepare first, and wait for one's turn.
        """
        await self._link.connect(keeper)
        web = _web(self._gate, self._config.max_connections)
        try:
            looked: Database | None = None
            if passive:
                looked = await prepare(self._config, web.config)
                self._link.prepared(__version__)
            hello = await self._link.greeted()
            server = Server(self._config, self._link, hello)
            starting = asyncio.create_task(server.start(self._waiting))
            # Connections stay in the backlog for as long as a start takes, but for no longer.
            await _first(starting, self._waits.wait())
            if starting.done():
                self._gate.open(starting.result())
            serving = asyncio.create_task(web.serve(sockets=[self._listener]))
            await web.is_up.wait()
            if not self._gate.is_open:
                await _first(starting, asyncio.shield(self._finished))
                if not starting.done():
                    return 0  # the keeper ends; what is not recorded is in the journal
                self._gate.open(starting.result())
        except ConfigurationError as error:
            await self._link.fatal(str(error))
            return _CONFIGURATION_EXIT
        except StoreError as error:
            log.warning("start_failed", error=str(error), cause=cause_of(error))
            return _AGAIN_EXIT
        if looked is not None:
            looked.close()
        self._started = server
        if self._draining:
            server.shutting_down()
        # What a start leaves lives as long as the process: the collector need not look at it, and
        # requests make few cycles, so that it need not look often either.
        gc.collect()
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER, 20, 20)
        self._link.ready()
        if hello.first_start:
            code = server.code.issue() if self._config.sign_in_link else None
            _announce(self._listener, server.new_token, code)
        position = await self._finished
        if position is None:
            web.accept_no_more()
            await retire(web, server.feed, serving)
        else:
            await server.finish(position)
            web.should_exit = True
            await serving
        await server.close()
        return 0

    def _waiting(self, reason: str) -> None:
        if reason != self._waits_for:
            self._waits_for = reason
            log.warning("start_waits", reason=reason)
            self._link.waiting(reason)
        self._waits.set()

    def _shutting_down(self) -> None:
        self._draining = True
        if self._started is not None:
            self._started.shutting_down()

    def _finish(self, position: int | None) -> None:
        if not self._finished.done():
            self._finished.set_result(position)


async def _first(task: "asyncio.Task[Any]", other: Awaitable[Any]) -> None:
    """Wait until a task is done or something else has come; the task goes on."""
    watch = asyncio.ensure_future(other)
    await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
    watch.cancel()


def _web(gate: StartupGate, max_connections: int | None) -> _Uvicorn:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = connection_limit(max_connections, descriptors)
    clients = ConnectionLimits(limit, asyncio.get_running_loop().call_later)
    protocol = partial(ClientProtocol, clients=clients)
    return _Uvicorn(
        uvicorn.Config(
            DefaultHeaders(gate),
            headers=FIXED,
            proxy_headers=False,  # anyone on this machine could say whatever address they like
            http=cast("type[asyncio.Protocol]", protocol),
            ws="none",
            lifespan="off",
            log_config=None,  # the root logger has our handler
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            timeout_keep_alive=60,
        ),
        clients,
    )


def _announce(listener: socket.socket, token: str | None, code: str | None) -> None:
    host, port = listener.getsockname()[:2]
    lines = [f"ScriptService listens on {_url(host, port)}"]
    if token is not None:
        lines.append(
            f"admin token, shown only now (also in the data directory, file token): {token}"
        )
    if code is not None:
        # Behind the #, which browsers send to nobody.
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        lines.append(
            f"sign in: {_url(reachable, port)}/#code={code} "
            f"(once, within {CODE_SECONDS // 60} minutes)"
        )
    try:
        os.write(1, ("\n".join(lines) + "\n").encode())
    except OSError:
        return


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
