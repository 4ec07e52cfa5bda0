"""Attaching to an interactive command: its output arrives, and input goes to it.

`AsyncAttachment` speaks the WebSocket protocol with the package ``wsproto``, on a connection that
httpx2 opens. So the token, TLS, the proxy and the time-outs are the same as for every request.
`Attachment` runs an `AsyncAttachment` in a thread of its own, for callers without asyncio.
"""

import asyncio
import base64
import json
import os
import threading
from collections.abc import AsyncGenerator, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx2 as httpx

from scriptservice.client.connection import Connection
from scriptservice.client.exchanges import answer_of, command_path, probe_arguments
from scriptservice.client.problems import (
    AlreadyFinishedError,
    ClientError,
    ConnectionLostError,
    ProblemError,
    UnexpectedAnswerError,
    error_of_response,
    problem_of,
)
from scriptservice.client.streams import OutputReader
from scriptservice.client.types import Command
from scriptservice.model import Status

if TYPE_CHECKING:
    from wsproto.connection import Connection as FrameConnection
    from wsproto.events import Event

READ_BYTES = 64 << 10
SEND_BYTES = 256 << 10
"""Largest message that is sent; the service takes messages up to 1 MiB."""
MAX_TEXT_BYTES = 16 << 20
"""Largest text message that is accepted; ``end`` has a whole command."""
CLOSE_SECONDS = 1.0
"""How long to wait until a close frame is sent."""

T = TypeVar("T")


class AsyncAttachment:
    r"""A connection to an interactive command, for asyncio. `AsyncClient.attach` returns one.

    Use it as an asynchronous context manager, and iterate over it: it yields the command's output
    as bytes until the command has finished. Other tasks may call the other methods meanwhile. ::

        async with client.attach(command_id) as attachment:
            await attachment.send(b"yes\n")
            async for data in attachment:
                print(data)

    If the connection breaks, the iteration reconnects, and no byte of output is lost or repeated.
    Input is never sent again, because it may have arrived.

    Args:
        connection: how to reach the service.
        command_id: id of the command.
        after: position in the merged output at which to begin; None for the present end.

    Attributes:
        position: position in the merged output behind the last byte that was received.
        stdin_offset: number of bytes of input that the service had accepted when this client was
            connected last; None if the service did not know.
        status: status of the command when this client was connected last.
        command: the finished command; None before its end.
        reconnects: how many times the connection broke and was made again.
        problem: the last problem that the service reported about a message; None if there is none.
    """

    def __init__(self, connection: Connection, command_id: str, after: int | None) -> None:
        self._connection = connection
        self._command_id = command_id
        self._after = after
        self._http = httpx.AsyncClient(**connection.http_options(idle_connections=0))
        self._retry = connection.retry()
        self._opened = AsyncExitStack()
        self._network: Any = None  # an httpcore2.AsyncNetworkStream
        self._frames: FrameConnection | None = None
        self._connected = asyncio.Event()
        self._writing = asyncio.Lock()
        self._pong: asyncio.Task[None] | None = None
        self._size: tuple[int, int] | None = None
        self._text = ""
        self._has_start = False
        self._early: list[bytes] = []  # output that came together with the start
        self._closed = False
        self._pieces = self._read()
        self.position = after or 0
        self.stdin_offset: int | None = None
        self.status: Status | None = None
        self.command: Command | None = None
        self.reconnects = 0
        self.problem: ProblemError | None = None

    async def __aenter__(self) -> Self:
        try:
            while True:
                try:
                    await self._open()
                except (httpx.TransportError, ClientError) as error:
                    await self._drop()
                    await asyncio.sleep(self._retry.pause_or_raise(error))
                else:
                    return self
        except BaseException:
            await self.close()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pieces)

    async def send(self, data: bytes) -> None:
        """Send input to the script.

        While the connection is broken, this method waits until it is made again. While the script
        does not read, the service stops reading after 1 MiB, and this method waits too.

        Args:
            data: the bytes, in order after all bytes that were sent before.

        Raises:
            ConnectionLostError: the connection broke, and the bytes may not have arrived.
        """
        from wsproto.events import BytesMessage

        for start in range(0, len(data), SEND_BYTES):
            await self._connected.wait()
            await self._write(BytesMessage(data[start : start + SEND_BYTES]))

    async def resize(self, rows: int, cols: int) -> None:
        """Change the size of the command's terminal, also again after the connection broke.

        Args:
            rows: number of lines, from 1 to 65535.
            cols: number of characters in a line, from 1 to 65535.
        """
        self._size = rows, cols
        if self._connected.is_set():
            with suppress(ConnectionLostError):
                await self._send_size()

    async def signal(self, signal: str) -> None:
        """Send a signal to the process group of the script.

        Args:
            signal: name of the signal, such as ``INT`` or ``SIGINT``.

        Raises:
            ConnectionLostError: the connection broke, and the signal may not have arrived.
        """
        await self._connected.wait()
        await self._send_text({"signal": signal})

    async def close(self) -> None:
        """End the connection. The command continues."""
        self._closed = True
        if self._connected.is_set():
            from wsproto.events import CloseConnection

            with suppress(ConnectionLostError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._write(CloseConnection(1000))
        await self._drop()
        await self._http.aclose()

    # The connection

    async def _open(self) -> None:
        """Open a WebSocket, and read the first message.

        Raises:
            ClientError: the service refuses, or its answer is not that of a ScriptService.
            httpx.TransportError: the service does not answer.
        """
        frame_connection = _new_frame_connection()
        is_first = self.status is None
        if self._retry.silent:
            response = await self._http.request(**probe_arguments(self._command_id, self._retry))
            answer_of(response, self._retry.tries + 1).expect(200)
            self._retry.answered()
        after = self._after if is_first else self.position
        response = await self._opened.enter_async_context(
            self._http.stream(
                "GET",
                command_path(self._command_id, "attach"),
                params={} if after is None else {"after": str(after)},
                headers={
                    "Connection": "Upgrade",
                    "Upgrade": "websocket",
                    "Sec-WebSocket-Version": "13",
                    "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
                },
                extensions={"timeout": self._retry.stream_timeouts()},
            )
        )
        if response.status_code != 101:
            await response.aread()
            raise error_of_response(response)
        self._network = response.extensions["network_stream"]
        self._frames, self._text = frame_connection, ""
        self._retry.heard()
        self._has_start, self._early = False, []
        while not self._is_open():
            async for data in self._next_pieces():
                if not self._is_open():
                    raise _not_understood("output before the start")
                self._early.append(data)
        self.reconnects += not is_first
        self._connected.set()
        if self._size is not None:
            await self.resize(*self._size)

    # These are methods, because a type checker expects that an attribute keeps its value in a loop.

    def _is_open(self) -> bool:
        return self._has_start

    def _is_over(self) -> bool:
        return self.command is not None or self._closed

    async def _drop(self) -> None:
        """Close the connection at once."""
        self._connected.clear()
        if self._pong is not None:
            self._pong.cancel()
        opened, self._opened = self._opened, AsyncExitStack()
        network, self._network = self._network, None
        if network is not None:
            with suppress(Exception):  # the connection may be broken already
                await network.aclose()
        with suppress(Exception):
            await opened.aclose()

    async def _read(self) -> AsyncGenerator[bytes, None]:
        """Yield output until the command has finished or the attachment is closed."""
        while not self._is_over():
            try:
                if self._network is None:
                    await self._open()
                early, self._early = self._early, []
                for data in early:
                    self.position += len(data)
                    yield data
                if self._is_over():
                    return
                async for data in self._next_pieces():
                    self.position += len(data)
                    yield data
            except AlreadyFinishedError:
                # It finished while the connection was broken, so read the rest by requests.
                await self._drop()
                async for data in self._read_rest():
                    yield data
            except (httpx.TransportError, ClientError) as error:
                await self._drop()
                if self._is_over():
                    return
                await asyncio.sleep(self._retry.stream_failed(error))

    async def _read_rest(self) -> AsyncGenerator[bytes, None]:
        while self.command is None:
            reader = OutputReader(self._command_id, "merged", self.position, None, follow=False)
            try:
                extensions = {"timeout": self._retry.stream_timeouts()}
                async with self._http.stream(**reader.request(), extensions=extensions) as response:
                    if not reader.accepts(response):
                        await response.aread()
                        raise error_of_response(response)
                    async for data in response.aiter_raw():
                        self.position += len(data)
                        yield data
                response = await self._http.request(
                    **probe_arguments(self._command_id, self._retry)
                )
                self.command = answer_of(response, 1).expect(200).command()
            except (httpx.TransportError, ClientError) as error:
                await asyncio.sleep(self._retry.stream_failed(error))

    # Messages

    async def _next_pieces(self) -> AsyncGenerator[bytes, None]:
        """Wait for the next bytes from the service, and yield the output in them.

        Raises:
            ConnectionLostError: the connection is broken or closed.
            httpx.ReadTimeout: the service was silent for too long; it sends a ping every 15 s.
        """
        from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

        assert self._frames is not None  # noqa: S101 - set by `_open`
        self._frames.receive_data(await self._receive())
        for event in self._frames.events():
            match event:
                case BytesMessage():
                    if event.data:
                        yield bytes(event.data)
                case TextMessage():
                    self._text_received(event.data, complete=event.message_finished)
                case Ping() if self._pong is None or self._pong.done():
                    # In a task, because another task may hold the lock for long in `send`.
                    self._pong = asyncio.create_task(self._answer_ping(event.response()))
                case CloseConnection() if self.command is None:
                    raise ConnectionLostError(event.reason or "the service closed the connection")
                case _:
                    pass

    async def _receive(self) -> bytes:
        import httpcore2

        try:
            data: bytes = await self._network.read(READ_BYTES, self._connection.silence_seconds)
        except httpcore2.TimeoutException as error:
            raise httpx.ReadTimeout(str(error)) from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
            message = str(error) or "the connection broke"
            raise ConnectionLostError(message) from error
        if not data:
            message = "the service closed the connection"
            raise ConnectionLostError(message)
        self._retry.answered()
        return data

    def _text_received(self, text: str, *, complete: bool) -> None:
        self._text += text
        if len(self._text) > MAX_TEXT_BYTES:
            raise _not_understood("a message does not end")
        if not complete:
            return
        text, self._text = self._text, ""
        try:
            ((name, value),) = json.loads(text).items()
            if name == "start":
                self._started(value)
            elif name == "end":
                self.command = Command.from_json(value)
            elif name == "error":
                self.problem = problem_of(value["status"], value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _not_understood("a message is malformed") from error

    def _started(self, value: dict[str, Any]) -> None:
        position = int(value["position"])
        if self.status is None:
            self.position = position
        elif position != self.position:
            raise _not_understood(f"output from {position}, not from {self.position}")
        self.stdin_offset, self.status = value["stdin_offset"], Status(value["status"])
        self._has_start = True

    async def _answer_ping(self, pong: "Event") -> None:
        with suppress(ConnectionLostError):
            await self._write(pong)

    async def _send_size(self) -> None:
        assert self._size is not None  # noqa: S101 - set by `resize`
        rows, cols = self._size
        await self._send_text({"resize": {"rows": rows, "cols": cols}})

    async def _send_text(self, message: dict[str, Any]) -> None:
        from wsproto.events import TextMessage

        await self._write(TextMessage(json.dumps(message)))

    async def _write(self, event: "Event") -> None:
        import httpcore2
        from wsproto.utilities import LocalProtocolError

        async with self._writing:
            network, frames = self._network, self._frames
            try:
                if network is None or frames is None:
                    raise OSError
                await network.write(frames.send(event), None)
            except (
                httpcore2.NetworkError,
                httpcore2.TimeoutException,
                httpcore2.ProtocolError,
                LocalProtocolError,
                OSError,
            ) as error:
                message = "the connection broke, so input may not have arrived"
                raise ConnectionLostError(message) from error


class Attachment:
    r"""A connection to an interactive command. `Client.attach` returns one.

    Use it as a context manager, and iterate over it: it yields the command's output as bytes until
    the command has finished. Other threads may call the other methods meanwhile. ::

        with client.attach(command_id) as attachment:
            attachment.send(b"yes\n")
            for data in attachment:
                print(data)

    If the connection breaks, the iteration reconnects, and no byte of output is lost or repeated.
    Input is never sent again, because it may have arrived.

    Args:
        connection: see `AsyncAttachment`.
        command_id: see `AsyncAttachment`.
        after: see `AsyncAttachment`.
    """

    def __init__(self, connection: Connection, command_id: str, after: int | None) -> None:
        self._arguments = connection, command_id, after
        self._inner: AsyncAttachment | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Lock()
        self._next: Future[bytes | None] | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._run(self._enter())
        except BaseException:
            self.close()
            raise
        return self

    async def _enter(self) -> None:
        self._inner = AsyncAttachment(*self._arguments)
        await self._inner.__aenter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._loop is None:
            raise StopIteration
        # An interrupt may end the wait for a piece. The next call then waits for the same piece.
        if self._next is None:
            self._next = asyncio.run_coroutine_threadsafe(self._piece(), self._loop)
        try:
            data = self._next.result()
        except CancelledError:  # by `close`, in another thread
            data = None
        self._next = None
        if data is None:
            raise StopIteration
        return data

    async def _piece(self) -> bytes | None:
        return await anext(self._attachment, None)

    @property
    def _attachment(self) -> AsyncAttachment:
        if self._inner is None:
            message = "cannot use the attachment: use it as a context manager"
            raise ClientError(message)
        return self._inner

    @property
    def position(self) -> int:
        """See `AsyncAttachment`."""
        return self._attachment.position

    @property
    def stdin_offset(self) -> int | None:
        """See `AsyncAttachment`."""
        return self._attachment.stdin_offset

    @property
    def status(self) -> Status | None:
        """See `AsyncAttachment`."""
        return self._attachment.status

    @property
    def command(self) -> Command | None:
        """See `AsyncAttachment`."""
        return self._attachment.command

    @property
    def reconnects(self) -> int:
        """See `AsyncAttachment`."""
        return self._attachment.reconnects

    @property
    def problem(self) -> ProblemError | None:
        """See `AsyncAttachment`."""
        return self._attachment.problem

    def send(self, data: bytes) -> None:
        """Send input to the script; see `AsyncAttachment.send`."""
        self._run(self._attachment.send(data))

    def resize(self, rows: int, cols: int) -> None:
        """Change the size of the command's terminal; see `AsyncAttachment.resize`."""
        self._run(self._attachment.resize(rows, cols))

    def signal(self, signal: str) -> None:
        """Send a signal to the process group of the script; see `AsyncAttachment.signal`."""
        self._run(self._attachment.signal(signal))

    def close(self) -> None:
        """End the connection. The command continues."""
        with self._closing:
            if self._loop is None or self._thread is None:
                return
            asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = None

    async def _leave(self) -> None:
        if self._inner is not None:
            with suppress(ClientError):
                await self._inner.close()
        # Threads may wait for these tasks, so end them before the loop.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_asyncgens()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            message = "cannot use the attachment: it is closed"
            raise ClientError(message)
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except CancelledError as error:  # by `close`, in another thread
            message = "the attachment was closed, so input may not have arrived"
            raise ConnectionLostError(message) from error


def _new_frame_connection() -> "FrameConnection":
    """Return the state of a new WebSocket.

    Raises:
        ClientError: the package ``wsproto`` is not installed.
    """
    try:
        from wsproto.connection import Connection as FrameConnection
        from wsproto.connection import ConnectionType
    except ImportError as error:
        message = (
            "cannot attach: the package wsproto is not installed; "
            "install it with: pip install 'scriptservice[attach]'"
        )
        raise ClientError(message) from error
    return FrameConnection(ConnectionType.CLIENT)


def _not_understood(what: str) -> UnexpectedAnswerError:
    return UnexpectedAnswerError(f"cannot understand the service on the WebSocket: {what}")
