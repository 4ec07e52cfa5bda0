"""TLS in front of a service, and an HTTP proxy, both on loopback."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import trustme

from support.service import PATIENCE_SECONDS


class Authority:
    """A certificate authority that no machine trusts.

    Attributes:
        file: its certificate, as the CA file of a client.
        context: for servers on loopback, whose certificate it has signed.
    """

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        self.file = directory / "authority.pem"
        authority.cert_pem.write_to_path(str(self.file))
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(self.context)


class Front:
    """A TCP server on loopback that passes each connection on, in a thread of its own.

    Args:
        target: port of this machine to which it passes all on; None: an HTTP proxy, which passes
            on to where the client's first request says.
        context: for TLS to the client; None for plain TCP.

    Attributes:
        port: where it listens.
        requests: the first line of what came on each connection, where it is a proxy.
        credentials: what the client sent as ``Proxy-Authorization``.
        silent: answer ``CONNECT`` and pass nothing on.
    """

    def __init__(self, target: int | None, context: ssl.SSLContext | None) -> None:
        self._target = target
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[str] = []
        self.credentials: set[str] = set()
        self.silent = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(
            asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context, limit=1 << 20)
        )
        self.port: int = self._server.sockets[0].getsockname()[1]

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._pass_on(reader, writer)
        self._tasks.discard(task)
        writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, port = b"", self._target
        if port is None:
            head = await reader.readuntil(b"\r\n\r\n")
            request, *headers = head.decode().split("\r\n")
            self.requests.append(request)
            fields = dict(each.lower().split(": ", 1) for each in headers if each)
            self.credentials.add(fields.get("proxy-authorization", ""))
            method, where, _ = request.split(" ")
            port = int(where.removeprefix("http://").partition("/")[0].rpartition(":")[2])
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                await writer.drain()
                if self.silent:
                    await asyncio.sleep(PATIENCE_SECONDS)
            else:
                first = head
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        server_writer.write(first)
        try:
            await asyncio.wait(
                [
                    asyncio.create_task(_pump(reader, server_writer)),
                    asyncio.create_task(_pump(server_reader, writer)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            server_writer.close()

    def close(self) -> None:
        """End it, with all its connections."""

        async def end() -> None:
            self._server.close()
            for task in [
                each for each in asyncio.all_tasks() if each is not asyncio.current_task()
            ]:
                task.cancel()
            await asyncio.sleep(0.05)

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


@contextlib.contextmanager
def front(target: int | None, context: ssl.SSLContext | None) -> Iterator[Front]:
    """A `Front` for the time of a ``with``."""
    made = Front(target, context)
    try:
        yield made
    finally:
        made.close()
