"""The client for asyncio, with the methods of `Client`."""

import asyncio
import builtins
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx2 as httpx

from scriptservice.client import exchanges
from scriptservice.client.attachment import AsyncAttachment
from scriptservice.client.connection import Connection
from scriptservice.client.problems import ClientError, error_of_response
from scriptservice.client.retry import SILENCE_SECONDS, Retry
from scriptservice.client.streams import Chunk, EventReader, Followed, OutputReader, StreamReader
from scriptservice.client.types import (
    Command,
    Host,
    InputReceipt,
    ListFilters,
    Result,
    SubmitFields,
)

T = TypeVar("T")


class AsyncClient:
    """Uses one service from asyncio. Requests and streams continue when the service restarts.

    The methods, arguments and errors are the same as those of `Client`. `follow`, `list` and
    `stream_output` return asynchronous iterators; all other methods must be awaited. Use the client
    in only one event loop. Use the client as an asynchronous context manager, or call `close` at
    the end.

    Args:
        url: see `Client`.
        token: see `Client`.
        ca_file: see `Client`.
        proxy: see `Client`.
        retry_seconds: see `Client`.
        silence_seconds: see `Client`.
        first_contact_seconds: see `Client`.
        on_unreachable: see `Client`.

    Raises:
        ClientError: the URL, the token, the CA file or the proxy cannot be used.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        ca_file: str | os.PathLike[str] | None = None,
        proxy: str | None = None,
        retry_seconds: float = 60,
        silence_seconds: float = SILENCE_SECONDS,
        first_contact_seconds: float | None = None,
        on_unreachable: Callable[[float], None] | None = None,
    ) -> None:
        self._connection = Connection(
            url,
            token,
            ca_file=ca_file,
            proxy=proxy,
            retry_seconds=retry_seconds,
            silence_seconds=silence_seconds,
            first_contact_seconds=first_contact_seconds,
            on_unreachable=on_unreachable,
        )
        self._http = httpx.AsyncClient(**self._connection.http_options(idle_connections=20))
        # `_http_new` keeps no idle connections, so each of its requests opens a new connection. It
        # is used after a failed try, because the idle connections of `_http` may all be dead
        # although the service works.
        self._http_new = httpx.AsyncClient(**self._connection.http_options(idle_connections=0))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()
        await self._http_new.aclose()

    @property
    def url(self) -> str:
        """The service's URL, without a slash at its end."""
        return self._connection.url

    # The life of a command

    async def submit(
        self,
        script: str,
        *,
        wait_seconds: float | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[SubmitFields],
    ) -> Command:
        """Submit a script; see `Client.submit`."""
        silence = self._connection.silence_seconds
        return await self._do(
            exchanges.submit(script, fields, wait_seconds, idempotency_key, silence)
        )

    async def run(
        self,
        script: str,
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[SubmitFields],
    ) -> Result:
        """Submit a script, and return its outcome with all of its output; see `Client.run`."""
        command = await self.submit(script, idempotency_key=idempotency_key, **fields)
        parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        async for chunk in self.follow(command.id):
            parts[chunk.stream].append(chunk.data)
        found = await self.get(command.id)
        return Result(found, b"".join(parts["stdout"]), b"".join(parts["stderr"]))

    async def get(self, command_id: str, *, wait_seconds: float | None = None) -> Command:
        """Return a command as it is now; see `Client.get`."""
        silence = self._connection.silence_seconds
        return await self._do(exchanges.get(command_id, wait_seconds, silence))

    async def wait(self, command_id: str, *, timeout_seconds: float | None = None) -> Command:
        """Wait until a command has finished; see `Client.wait`."""
        silence = self._connection.silence_seconds
        return await self._do(exchanges.wait(command_id, timeout_seconds, silence))

    def follow(self, command_id: str, *, after: int = 0) -> "AsyncFollowing":
        """Follow a command's output until the command has finished; see `Client.follow`."""
        reader = EventReader(command_id, after)
        return AsyncFollowing(self._stream(reader), reader)

    async def send_input(
        self, command_id: str, data: bytes, *, offset: int | None = None, close: bool = False
    ) -> InputReceipt:
        """Send input to an interactive command; see `Client.send_input`."""
        return await self._do(exchanges.send_input(command_id, data, offset, close))

    async def signal(self, command_id: str, signal: str) -> Command:
        """Send a signal to the script of a command; see `Client.signal`."""
        return await self._do(exchanges.signal(command_id, signal))

    def attach(self, command_id: str, *, after: int | None = None) -> AsyncAttachment:
        """Attach to an interactive command; see `Client.attach`."""
        return AsyncAttachment(self._connection, command_id, after)

    async def stop(
        self, command_id: str, *, signal: str | None = None, grace_seconds: float | None = None
    ) -> Command:
        """Ask the service to stop a command; see `Client.stop`."""
        return await self._do(exchanges.stop(command_id, signal, grace_seconds))

    async def rerun(
        self,
        command_id: str,
        *,
        wait_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Command:
        """Submit the same script with the same fields again; see `Client.rerun`."""
        silence = self._connection.silence_seconds
        return await self._do(exchanges.rerun(command_id, wait_seconds, idempotency_key, silence))

    async def delete(self, command_id: str) -> None:
        """Delete a finished command and its output; see `Client.delete`."""
        await self._do(exchanges.delete(command_id))

    # What is stored

    async def list(self, **filters: Unpack[ListFilters]) -> AsyncIterator[Command]:
        """Yield commands, newest first; see `Client.list`."""
        query = exchanges.list_query(**filters)
        cursor: str | None = ""
        while cursor is not None:
            more = [("cursor", cursor)] if cursor else []
            items, cursor = await self._do(exchanges.page(query + more))
            for item in items:
                yield item

    async def output(
        self,
        command_id: str,
        *,
        stream: str = "merged",
        offset: int | None = None,
        limit: int | None = None,
        tail: str | None = None,
    ) -> bytes:
        """Return the stored part of a command's output; see `Client.output`."""
        return await self._do(exchanges.output(command_id, stream, offset, limit, tail))

    def stream_output(
        self,
        command_id: str,
        *,
        stream: str = "merged",
        offset: int | None = None,
        tail: str | None = None,
        follow: bool = False,
    ) -> AsyncIterator[bytes]:
        """Yield the output of a command in pieces; see `Client.stream_output`."""
        return self._stream(OutputReader(command_id, stream, offset, tail, follow=follow))

    async def hosts(self) -> builtins.list[Host]:
        """Return all hosts."""
        return await self._do(exchanges.hosts())

    # Requests and streams

    def _connections(self, retry: Retry) -> httpx.AsyncClient:
        return self._http_new if retry.new_connection else self._http

    async def _do(self, exchange: exchanges.Exchange[T]) -> T:
        try:
            request = next(exchange)
            while True:
                request = exchange.send(await self._send(request))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _send(self, request: exchanges.Request) -> exchanges.Answer:
        retry = self._connection.retry()
        while True:
            try:
                http = self._connections(retry)
                response = await http.request(**exchanges.http_arguments(request, retry))
                self._connection.answered()
                return exchanges.answer_of(response, retry.tries + 1)
            except (httpx.TransportError, ClientError) as error:
                await asyncio.sleep(retry.pause_or_raise(error, may_repeat=request.may_repeat))

    async def _stream(self, reader: StreamReader[T]) -> AsyncGenerator[T, None]:
        retry = self._connection.retry()
        while not reader.ended:
            try:
                if retry.silent:
                    await self._probe(reader.command_id, retry)
                extensions = {"timeout": retry.stream_timeouts()}
                async with self._connections(retry).stream(
                    **reader.request(), extensions=extensions
                ) as response:
                    if not reader.accepts(response):
                        await response.aread()
                        raise error_of_response(response)
                    if reader.heard:
                        retry.heard()
                    async for data in response.aiter_raw():
                        for piece in reader.feed(data):
                            yield piece
                        if reader.heard:
                            # The caller may have worked for long before it asked for the next
                            # piece. This call keeps that time from counting as silence.
                            retry.answered()
                reader.closed()
            except (httpx.TransportError, ClientError) as error:
                await asyncio.sleep(retry.stream_failed(error))

    async def _probe(self, command_id: str, retry: Retry) -> None:
        """Check on a new connection whether the service answers.

        Raises:
            ClientError: the service refuses the request, for example because the command was
                deleted.
            httpx.TransportError: the service does not answer.
        """
        response = await self._http_new.request(**exchanges.probe_arguments(command_id, retry))
        exchanges.answer_of(response, retry.tries + 1).expect(200)
        retry.answered()


class AsyncFollowing(Followed):
    """An asynchronous iterator over a command's output. It reconnects if the connection breaks.

    `AsyncClient.follow` returns such an iterator. Its ``position`` tells how far the output was
    read. Its ``command`` is the command as the service last described it.
    """

    def __init__(self, chunks: AsyncGenerator[Chunk, None], reader: EventReader) -> None:
        super().__init__(reader)
        self._chunks = chunks

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """Close the connection and end the iteration."""
        await self._chunks.aclose()
