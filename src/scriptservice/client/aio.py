"""The client for asyncio: the same flows, awaited."""

import asyncio
import builtins
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2 as httpx

from scriptservice.client import flows
from scriptservice.client.connection import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    SILENT_STREAM_SECONDS,
    connection,
)
from scriptservice.client.follow import Chunk, Follower
from scriptservice.client.problems import ClientError, error_of
from scriptservice.client.types import Command, Host, Result

T = TypeVar("T")


class AsyncClient:
    """Speaks with one service from asyncio; verbs and errors are those of `Client`.

    Args:
        url: None: ``SCRIPTSERVICE_URL``, else http://127.0.0.1:8000.
        token: None: ``SCRIPTSERVICE_TOKEN``, else the file ``token`` in the data directory.
        retry_seconds: how long to go on while nobody answers; 0 to try once.

    Raises:
        ClientError: the URL or the token is none.
    """

    def __init__(
        self, url: str | None = None, token: str | None = None, *, retry_seconds: float = 60
    ) -> None:
        self._connection = connection(url, token, retry_seconds)
        self._http = httpx.AsyncClient(
            base_url=self._connection.url,
            headers=self._connection.headers,
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            trust_env=False,
        )

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

    @property
    def url(self) -> str:
        """The service's URL."""
        return self._connection.url

    def _retry(self) -> flows.Retry:
        return flows.Retry(self.url, self._connection.retry_seconds)

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
                response = await self._http.request(**flows.http_arguments(request))
                return flows.answer_of(response, retry.tries + 1)
            except (httpx.TransportError, ClientError) as error:
                await asyncio.sleep(retry.pause_or_raise(error))

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
        return await self._do(flows.submit({"script": script, **fields}, wait_seconds, key))

    async def get(self, command: str, *, wait_seconds: float | None = None) -> Command:
        """See `Client.get`."""
        return await self._do(flows.get(command, wait_seconds))

    async def wait(self, command: str, *, timeout_seconds: float | None = None) -> Command:
        """See `Client.wait`."""
        return await self._do(flows.wait(command, timeout_seconds))

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
        return await self._do(flows.rerun(command, wait_seconds, key))

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
                async with self._http.stream(
                    "GET",
                    flows.events_path(command),
                    headers=follower.headers,
                    timeout=httpx.Timeout(SILENT_STREAM_SECONDS, connect=CONNECT_SECONDS),
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
                await asyncio.sleep(retry.pause_or_raise(error))

    async def run(self, script: str, **fields: Any) -> Result:
        """See `Client.run`."""
        command = await self.submit(script, **fields)
        parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        async for chunk in self.follow(command.id):
            parts[chunk.stream].append(chunk.data)
        found = await self.get(command.id)
        return Result(found, b"".join(parts["stdout"]), b"".join(parts["stderr"]))
