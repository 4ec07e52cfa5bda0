"""The server's process: reads its configuration, serves, and ends when the keeper requests it."""

import asyncio
import ctypes
import gc
import json
import os
import resource
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import structlog
import uvicorn

from scriptservice.errors import ConfigurationError, StoreError
from scriptservice.fleet.local import Hello, LocalKeeper
from scriptservice.protocol.log_lines import LogWriter
from scriptservice.server.access.sign_in import CODE_SECONDS
from scriptservice.server.composition import Server
from scriptservice.server.http.client_protocol import ClientProtocol, WebSocketProtocol
from scriptservice.server.http.connection_limits import (
    ConnectionLimits,
    LimitedConnection,
    connection_limit,
)
from scriptservice.server.http.response_headers import FIXED, DefaultHeaders
from scriptservice.server.startup.server_config import ServerConfig
from scriptservice.server.startup.startup_gate import StartupGate
from scriptservice.server.startup.takeover import prepare, retire
from scriptservice.server.telemetry.server_log import start_logging
from scriptservice.store.database.engine import Database
from scriptservice.store.writer import cause_of
from scriptservice.version import __version__

CHECK_TICKS = 10
"""Number of uvicorn's ticks between two checks of all connections. Ten ticks take a second."""

STALL_SECONDS = 2.0
"""Normally one second passes between two checks. If more than `STALL_SECONDS` pass, this process
was stopped or very busy meanwhile."""

GRACE_SECONDS = 3
KEEP_ALIVE_SECONDS = 60
GC_THRESHOLDS = (20_000, 20, 20)
LARGE_BUFFER_BYTES = 128 << 10
_M_MMAP_THRESHOLD = -3
_CONFIGURATION_EXIT = 78
_RETRY_EXIT = 75

log = structlog.get_logger()


class _UvicornServer(uvicorn.Server):
    """A uvicorn server that handles no signals and can stop accepting connections for a while.

    Args:
        config: uvicorn's configuration.
        limits: the limits on all connections.

    Attributes:
        is_up: event that is set once the server accepts connections.
    """

    def __init__(self, config: uvicorn.Config, limits: ConnectionLimits) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()
        self._checked_at = time.monotonic()
        self._listeners: list[socket.socket] = []
        self._accepting: asyncio.Task[None] | None = None
        self._limits = limits
        limits.on_full = self._stop_accepting
        limits.on_room = self._resume_accepting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        self._listeners = sockets or []
        # Uvicorn closes the sockets that it listens on, but the inherited socket must stay open. So
        # uvicorn gets duplicates.
        await super().startup([each.dup() for each in self._listeners])
        self.is_up.set()

    def accept_no_more(self) -> None:
        """Accept no connections from now on. New connections wait for the next server."""
        self._listeners = []

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        self.accept_no_more()
        await super().shutdown(sockets)

    def _stop_accepting(self) -> None:
        """Leave new connections in the backlog until there is room for them."""
        log.warning("connections_full")
        for server in self.servers:
            server.close()
        self.servers = []

    def _resume_accepting(self) -> None:
        self._accepting = asyncio.create_task(self._accept())

    async def _accept(self) -> None:
        if self._listeners and not self.servers:
            log.info("connections_accepted")
            await super().startup([each.dup() for each in self._listeners])

    async def on_tick(self, counter: int) -> bool:
        """See `uvicorn.Server`."""
        if counter % CHECK_TICKS == 0:
            self._check_deadlines()
            self._limits.make_room()
        return await super().on_tick(counter)

    def _check_deadlines(self) -> None:
        """Close the connections whose clients have missed their deadlines."""
        now = time.monotonic()
        # If this process was stopped or very busy, it did not read what clients sent meanwhile. So
        # extend the clients' deadlines by the length of that pause.
        stalled_seconds = max(0.0, now - self._checked_at - STALL_SECONDS)
        self._checked_at = now
        for each in list(self.server_state.connections):
            connection = cast("ClientProtocol", each)
            connection.deadline += stalled_seconds
            connection.check_deadline(now)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals, because the keeper tells the server when to end."""
        yield


def main(*, keeper: int, listener: int, config: int, passive: bool = False) -> int:
    """Serve until the keeper ends the server; return the exit code.

    If the keeper dies, the process exits at once.

    Args:
        keeper: descriptor of the socket to the keeper.
        listener: descriptor of the listening socket.
        config: descriptor of a file with a `ServerConfig` as JSON.
        passive: whether this server replaces a server that is still running. If so, it prepares
            itself first, and changes nothing before it gets the keeper's first frame.
    """
    with os.fdopen(config, "rb") as file:
        settings = ServerConfig(**json.load(file))
    _raise_descriptor_limit()
    _return_freed_memory()
    start_logging(LogWriter("server", settings.host_name, settings.log_format), settings.log_level)

    async def run() -> int:
        process = _ServerProcess(settings, socket.socket(fileno=listener))
        return await process.run(socket.socket(fileno=keeper), passive=passive)

    with asyncio.Runner(loop_factory=_uvloop) as runner:
        return runner.run(run())


def _raise_descriptor_limit() -> None:
    """Raise the limit of open descriptors to the hard limit: each connection needs a descriptor.

    Scripts do not inherit this limit, because the keeper starts them.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _return_freed_memory() -> None:
    """Let the C library return large buffers to the kernel as soon as they are freed.

    The C library gives each buffer above a threshold a memory mapping of its own, and returns the
    mapping to the kernel when the buffer is freed. By default, it then also raises the threshold to
    the buffer's size, so the next buffer of that size comes from the heap. When this buffer is
    freed, other blocks on the heap may keep its memory from returning to the kernel. In a
    measurement, 120 MiB stayed resident after six request bodies of 17 MiB. The library does not
    raise a threshold that a program has set.
    """
    with suppress(OSError, AttributeError):  # the C library is not GNU's
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BUFFER_BYTES)


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class _ServerProcess:
    """Runs one server: connects to the keeper, starts, serves, and ends.

    Args:
        config: the server's configuration.
        listener: the listening socket.
    """

    def __init__(self, config: ServerConfig, listener: socket.socket) -> None:
        self._config = config
        self._listener = listener
        self._gate = StartupGate(config.hosts)
        self._start_waits = asyncio.Event()
        self._wait_reason = ""
        self._finished: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._draining = False
        self._server: Server | None = None
        self._link = LocalKeeper(
            config.host_name,
            on_shutdown=self._shutting_down,
            on_finish=self._finish,
            on_retire=lambda: self._finish(None),
            # Without the keeper, this server cannot work. The next keeper starts another server.
            on_gone=lambda: os._exit(0),
        )

    async def run(self, keeper: socket.socket, *, passive: bool) -> int:
        """Serve until the keeper ends the server; return the exit code.

        Args:
            keeper: the socket to the keeper.
            passive: see `main`.
        """
        await self._link.connect(keeper)
        web = _build_uvicorn(self._gate, self._config.max_connections)
        try:
            prepared: Database | None = None
            if passive:
                prepared = await prepare(self._config, web.config)
                self._link.send_prepared(__version__)
            hello = await self._link.wait_for_hello()
            server = Server(self._config, self._link, hello)
            serving = await self._start(server, web)
        except ConfigurationError as error:
            await self._link.send_fatal(str(error))
            return _CONFIGURATION_EXIT
        except StoreError as error:
            log.warning("start_failed", error=str(error), cause=cause_of(error))
            return _RETRY_EXIT
        if serving is None:
            return 0
        if prepared is not None:
            prepared.close()
        self._ready(server, hello)
        position = await self._finished
        if position is None:
            web.accept_no_more()
            await retire(web, server.notifier, serving)
        else:
            await server.finish(position)
            web.should_exit = True
            await serving
        await server.close()
        return 0

    async def _start(self, server: Server, web: _UvicornServer) -> "asyncio.Task[None] | None":
        """Start to serve. Open the gate as soon as `Server.start` has returned the application.

        Before that, new connections stay in the backlog of the listening socket. But if the start
        has to wait for the database, the server accepts connections, and the closed gate answers
        the requests with 503.

        Returns:
            The task that serves; None if the keeper ended the server before the server had started.
            In that case nothing is lost, because the journal keeps what is not stored yet.

        Raises:
            ConfigurationError: see `Server.start`.
            StoreError: see `Server.start`.
        """
        starting = asyncio.create_task(server.start(self._waiting))
        await _first(starting, self._start_waits.wait())
        if starting.done():
            self._gate.open(starting.result())
        serving = asyncio.create_task(web.serve(sockets=[self._listener]))
        await web.is_up.wait()
        if not self._gate.is_open:
            await _first(starting, asyncio.shield(self._finished))
            if not starting.done():
                return None
            self._gate.open(starting.result())
        return serving

    def _ready(self, server: Server, hello: Hello) -> None:
        """Tell the keeper that the server has started.

        If the whole service has just been started, and not only the server, also print the address.
        """
        self._server = server
        if self._draining:
            server.shutting_down()
        # The objects that exist now live as long as the process, so exclude them from garbage
        # collection. Requests make few reference cycles, so the collector need not run often.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        self._link.send_ready()
        if hello.first_start:
            code = server.sign_in_code.issue() if self._config.sign_in_link else None
            _announce(self._listener, server.new_token, code)

    def _waiting(self, reason: str) -> None:
        if reason != self._wait_reason:
            self._wait_reason = reason
            log.warning("start_waits", reason=reason)
            self._link.send_waiting(reason)
        self._start_waits.set()

    def _shutting_down(self) -> None:
        self._draining = True
        if self._server is not None:
            self._server.shutting_down()

    def _finish(self, position: int | None) -> None:
        if not self._finished.done():
            self._finished.set_result(position)


async def _first(task: "asyncio.Task[Any]", other: Awaitable[Any]) -> None:
    """Wait until a task or another awaitable is done. Cancel the awaitable, but never the task."""
    watch = asyncio.ensure_future(other)
    await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
    watch.cancel()


def _build_uvicorn(gate: StartupGate, max_connections: int | None) -> _UvicornServer:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = connection_limit(max_connections, descriptors)
    limits = ConnectionLimits(limit, asyncio.get_running_loop().call_later)
    protocol = partial(ClientProtocol, limits=limits, new_websocket=_new_websocket)
    return _UvicornServer(
        uvicorn.Config(
            DefaultHeaders(gate),
            headers=FIXED,
            proxy_headers=False,  # otherwise any local process could fake a client's address
            http=cast("type[asyncio.Protocol]", protocol),
            ws="none",
            lifespan="off",
            log_config=None,  # the root logger has our handler
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ),
        limits,
    )


def _new_websocket(
    transport: asyncio.Transport, on_lost: Callable[[LimitedConnection], None]
) -> WebSocketProtocol:
    # Imported late: most servers never have a WebSocket, and the module takes 1 MiB of memory.
    from scriptservice.server.websocket.websocket_connection import WebSocketConnection

    return WebSocketConnection(transport, on_lost)


def _announce(listener: socket.socket, token: str | None, code: str | None) -> None:
    host, port = listener.getsockname()[:2]
    lines = [f"ScriptService listens on {_url(host, port)}"]
    if token is not None:
        lines.append(
            f"admin token, shown only now (also in the data directory, file token): {token}"
        )
    if code is not None:
        # The code follows a "#", because browsers do not send the part of an address after "#".
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        lines.append(
            f"sign in: {_url(reachable, port)}/#code={code} "
            f"(once, within {CODE_SECONDS // 60} minutes)"
        )
    try:
        os.write(1, ("\n".join(lines) + "\n").encode())
    except OSError:
        return  # nobody reads stdout, and the service works without these lines


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
