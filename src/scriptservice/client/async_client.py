"""The client for asyncio: the same flows, awaited."""

import asyncio
import builtins
import ssl
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2 as httpx

from scriptservice.client import flows
from scriptservice.client.follow import Chunk, Follower
from scriptservice.client.problems import ClientError, error_of
from scriptservice.client.retry import SILENCE_SECONDS, Retry, silence_seconds_of
from scriptservice.client.service_address import Connection, connection
from scriptservice.client.types import Command, Host, Result

T = TypeVar("T")


def _http(
    connection: Connection, context: ssl.SSLContext, idle_connections: int
) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=connection.url,
        headers=connection.headers,
        limits=httpx.Limits(max_keepalive_connections=idle_connections),
        verify=context,
        trust_env=False,
    )


class AsyncClient:
    """Speaks with one service from asyncio; verbs and errors are those of `Client`.

    Args:
        url: None: ``SCRIPTSERVICE_URL``, else http://127.0.0.1:8000.
        token: None: ``SCRIPTSERVICE_TOKEN``, else the file ``token`` in the data directory.
        retry_seconds: see `Client`, as the other times.
        silence_seconds: see `Client`.
        first_contact_seconds: see `Client`.

    Raises:
        ClientError: the URL or the token is none.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        retry_seconds: float = 60,
        silence_seconds: float = SILENCE_SECONDS,
        first_contact_seconds: float | None = None,
    ) -> None:
        self._connection = connection(url, token)
        self._retry_seconds = retry_seconds
        self._silence_seconds = silence_seconds_of(retry_seconds, silence_seconds)
        self._first_contact_seconds = first_contact_seconds
        context = httpx.create_ssl_context(trust_env=False)
        self._http = _http(self._connection, context, idle_connections=20)
        # A connection that fell silent says nothing of the service, and neither do those that
        # were opened before it: each further try has a connection of its own.
        self._http_new = _http(self._connection, context, idle_connections=0)

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
        """The service's URL."""
        return self._connection.url

    def _retry(self) -> Retry:
        return Retry(
            self.url,
            self._retry_seconds,
            self._silence_seconds,
            first_contact_seconds=self._first_contact_seconds,
        )

    def _connections(self, retry: Retry) -> httpx.AsyncClient:
        return self._http_new if retry.new_connection else self._http

    async def _do(self, flow: flows.Flow[T]) -> T:
        try:
            request = next(flow)
            while True:
                request = flow.send(await self._send(request))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _send(self, request: flows.Request) -> flows.Answer:
        retry = self._retry()
        while True:
            try:
                http = self._connections(retry)
                response = await http.request(**flows.http_arguments(request, retry))
                self._first_contact_seconds = None
                return flows.answer_of(response, retry.tries + 1)
            except (httpx.TransportError, ClientError) as error:
                await asyncio.sleep(retry.pause_or_raise(error))

    async def _probe(self, command: str, retry: Retry) -> None:
        """Ask on a new connection whether the service is there; note that it answered.

        Raises:
            ClientError: the service says no, for example because the command was deleted.
            httpx.TransportError: it does not answer.
        """
        response = await self._http_new.request(**flows.probe_arguments(command, retry))
        flows.answer_of(response, retry.tries + 1).expect(200)
        retry.answered()

    # Verbs

    async def submit(
        self,
        script: str,
        *,
        wait_seconds: float | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Command:
        """See `Client.submit`."""
        key = idempotency_key or flows.new_key()
        return await self._do(
            flows.submit({"script": script, **fields}, wait_seconds, key, self._silence_seconds)
        )

    async def get(self, command: str, *, wait_seconds: float | None = None) -> Command:
        """See `Client.get`."""
        return await self._do(flows.get(command, wait_seconds, self._silence_seconds))

    async def wait(self, command: str, *, timeout_seconds: float | None = None) -> Command:
        """See `Client.wait`."""
        return await self._do(flows.wait(command, timeout_seconds, self._silence_seconds))

    async def list(self, **filters: Any) -> AsyncIterator[Command]:
        """See `Client.list`."""
        query = flows.list_query(**filters)
        cursor: str | None = ""
        while cursor is not None:
            more = [("cursor", cursor)] if cursor else []
            items, cursor = await self._do(flows.page(query + more))
            for item in items:
                yield item

    async def stop(
        self, command: str, *, signal: str | None = None, grace_seconds: float | None = None
    ) -> Command:
        """See `Client.stop`."""
        return await self._do(flows.stop(command, signal, grace_seconds))

    async def rerun(
        self,
        command: str,
        *,
        wait_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Command:
        """See `Client.rerun`."""
        key = idempotency_key or flows.new_key()
        return await self._do(flows.rerun(command, wait_seconds, key, self._silence_seconds))

    async def delete(self, command: str) -> None:
        """See `Client.delete`."""
        await self._do(flows.delete(command))

    async def output(
        self,
        command: str,
        *,
        stream: str = "merged",
        offset: int | None = None,
        limit: int | None = None,
        tail: str | None = None,
    ) -> bytes:
        """See `Client.output`."""
        return await self._do(flows.output(command, stream, offset, limit, tail))

    async def hosts(self) -> builtins.list[Host]:
        """See `Client.hosts`."""
        return await self._do(flows.hosts())

    async def follow(self, command: str, *, after: int = 0) -> AsyncIterator[Chunk]:
        """Yield a command's output from a position on, through every break; see `Client.follow`."""
        follower = Follower(after)
        retry = self._retry()
        while not follower.ended:
            follower.connected()
            try:
                if retry.silent:
                    await self._probe(command, retry)
                async with self._connections(retry).stream(
                    "GET",
                    flows.events_path(command),
                    headers=follower.headers,
                    extensions={"timeout": retry.stream_timeouts()},
                ) as response:
                    if not flows.is_events(response):
                        await response.aread()
                        raise error_of(*flows.refusal(response))
                    async for data in response.aiter_raw():
                        for chunk in follower.feed(data):
                            yield chunk
                        if follower.heard:
                            retry.answered()
                if not follower.ended:
                    raise flows.STREAM_CLOSED
            except (httpx.TransportError, ClientError) as error:
                await asyncio.sleep(retry.stream_failed(error))

    async def run(self, script: str, **fields: Any) -> Result:
        """See `Client.run`."""
        command = await self.submit(script, **fields)
        parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        async for chunk in self.follow(command.id):
            parts[chunk.stream].append(chunk.data)
        found = await self.get(command.id)
        return Result(found, b"".join(parts["stdout"]), b"".join(parts["stderr"]))
