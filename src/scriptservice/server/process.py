"""The server's process: from inherited descriptors to serving, and to its end in order."""

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from scriptservice.errors import ConfigurationError
from scriptservice.fleet.local import LocalKeeper
from scriptservice.keeper.lines import Lines
from scriptservice.server.app import Server
from scriptservice.server.config import ServerConfig
from scriptservice.server.logs import start_logging

GRACE_SECONDS = 3
_CONFIGURATION_EXIT = 78


class _Uvicorn(uvicorn.Server):
    """Uvicorn that leaves signals to the keeper, and says when it serves.

    Args:
        config: uvicorn's.
        on_started: called once it accepts connections.
    """

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        await super().startup(sockets)
        self._on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: the keeper says when to end."""
        yield


def main(*, keeper: int, listener: int, config: int) -> int:
    """Serve until the keeper says to end, or is gone; return the exit code.

    Args:
        keeper: descriptor of the socket to it.
        listener: descriptor of the listening socket.
        config: descriptor of a file with a `ServerConfig` as JSON.
    """
    with os.fdopen(config, "rb") as file:
        told = ServerConfig(**json.load(file))
    start_logging(Lines("server", told.host_name, told.log_format), told.log_level)
    with asyncio.Runner(loop_factory=_uvloop) as runner:
        return runner.run(
            _serve(told, socket.socket(fileno=keeper), socket.socket(fileno=listener))
        )


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


async def _serve(config: ServerConfig, keeper: socket.socket, listener: socket.socket) -> int:
    finished: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    server: Server | None = None
    draining = False

    def shutting_down() -> None:
        nonlocal draining
        draining = True
        if server is not None:
            server.shutting_down()

    def finish(position: int) -> None:
        if not finished.done():
            finished.set_result(position)

    link = LocalKeeper(
        config.host_name,
        on_shutdown=shutting_down,
        on_finish=finish,
        # Its scripts and its journal are gone from us; another keeper starts another server.
        on_gone=lambda: os._exit(0),
    )
    hello = await link.connect(keeper)
    try:
        server = Server(config, link, hello)
    except ConfigurationError as error:
        link.fatal(str(error))
        await asyncio.sleep(0.1)
        return _CONFIGURATION_EXIT
    app = await server.start()
    if draining:
        server.shutting_down()

    def started() -> None:
        link.ready()
        if hello.first_start:
            _announce(listener, new_token)

    new_token = server.new_token
    web = _Uvicorn(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,  # the root logger has our handler
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            timeout_keep_alive=60,
        ),
        started,
    )
    serving = asyncio.create_task(web.serve(sockets=[listener]))
    position = await finished
    await server.finish(position)
    web.should_exit = True
    await serving
    await server.close()
    return 0


def _announce(listener: socket.socket, token: str | None) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    lines = [f"ScriptService listens on http://{shown}:{port}"]
    if token is not None:
        lines.append(
            f"admin token, shown only now (also in the data directory, file token): {token}"
        )
    try:
        os.write(1, ("\n".join(lines) + "\n").encode())
    except OSError:
        return
