"""The blocking client."""

import builtins
import ssl
import time
from collections.abc import Iterator
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


def _http(connection: Connection, context: ssl.SSLContext, idle_connections: int) -> httpx.Client:
    return httpx.Client(
        base_url=connection.url,
        headers=connection.headers,
        limits=httpx.Limits(max_keepalive_connections=idle_connections),
        verify=context,
        trust_env=False,
    )


class Client:
    """Speaks with one service; goes on through restarts of it.

    Requests that get no answer are sent again, with growing pauses, for ``retry_seconds``;
    submits carry an Idempotency-Key, so that none is made twice.

    Args:
        url: None: ``SCRIPTSERVICE_URL``, else http://127.0.0.1:8000.
        token: None: ``SCRIPTSERVICE_TOKEN``, else the file ``token`` in the data directory.
        retry_seconds: how long to go on, counted from when the service was last heard of; 0 to
            try once. Where a connection is open and silent, less than 5 s is taken for 5 s.
        silence_seconds: how long a stream may be silent before the service is asked on a new
            connection whether it is there; never longer than leaves 2 s of ``retry_seconds``.
        first_contact_seconds: how long to go on while no connection could be made yet; None for
            ``retry_seconds``.

    Raises:
        ClientError: the URL or the token is none. Every method raises `problems.ProblemError`
            classes where the service says no, `ConnectionLostError` and `UnexpectedAnswerError`
            otherwise.
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()
        self._http_new.close()

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

    def _connections(self, retry: Retry) -> httpx.Client:
        return self._http_new if retry.new_connection else self._http

    def _do(self, flow: flows.Flow[T]) -> T:
        try:
            request = next(flow)
            while True:
                request = flow.send(self._send(request))
        except StopIteration as end:
            result: T = end.value
            return result

    def _send(self, request: flows.Request) -> flows.Answer:
        retry = self._retry()
        while True:
            try:
                http = self._connections(retry)
                response = http.request(**flows.http_arguments(request, retry))
                self._first_contact_seconds = None
                return flows.answer_of(response, retry.tries + 1)
            except (httpx.TransportError, ClientError) as error:
                time.sleep(retry.pause_or_raise(error))

    def _probe(self, command: str, retry: Retry) -> None:
        """Ask on a new connection whether the service is there; note that it answered.

        Raises:
            ClientError: the service says no, for example because the command was deleted.
            httpx.TransportError: it does not answer.
        """
        response = self._http_new.request(**flows.probe_arguments(command, retry))
        flows.answer_of(response, retry.tries + 1).expect(200)
        retry.answered()

    # Verbs

    def submit(
        self,
        script: str,
        *,
        wait_seconds: float | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Command:
        """Submit a script; it is durable when this returns.

        Args:
            script: its text.
            wait_seconds: wait so long for its end, at most 60.
            idempotency_key: a new one by default.
            fields: of the contract: ``name``, ``labels``, ``args``, ``env`` …
        """
        key = idempotency_key or flows.new_key()
        return self._do(
            flows.submit({"script": script, **fields}, wait_seconds, key, self._silence_seconds)
        )

    def get(self, command: str, *, wait_seconds: float | None = None) -> Command:
        """Return a command, after at most so many seconds (0–60) of waiting for its end."""
        return self._do(flows.get(command, wait_seconds, self._silence_seconds))

    def wait(self, command: str, *, timeout_seconds: float | None = None) -> Command:
        """Return a command once it is finished, or as it is after ``timeout_seconds``."""
        return self._do(flows.wait(command, timeout_seconds, self._silence_seconds))

    def list(self, **filters: Any) -> Iterator[Command]:
        """Yield commands, newest first, page after page.

        Args:
            filters: ``status`` (list), ``labels`` (dict), ``text``, ``host``, ``created_after``,
                ``created_before`` (RFC 3339), ``id_part`` (beginning or end of the id, at least
                8 characters), ``page_size``.
        """
        query = flows.list_query(**filters)
        cursor: str | None = ""
        while cursor is not None:
            more = [("cursor", cursor)] if cursor else []
            items, cursor = self._do(flows.page(query + more))
            yield from items

    def stop(
        self, command: str, *, signal: str | None = None, grace_seconds: float | None = None
    ) -> Command:
        """Ask for a command to be stopped; None leaves it to the service's defaults."""
        return self._do(flows.stop(command, signal, grace_seconds))

    def rerun(
        self,
        command: str,
        *,
        wait_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Command:
        """Submit the same again; return the new command."""
        key = idempotency_key or flows.new_key()
        return self._do(flows.rerun(command, wait_seconds, key, self._silence_seconds))

    def delete(self, command: str) -> None:
        """Delete a finished command and its output."""
        self._do(flows.delete(command))

    def output(
        self,
        command: str,
        *,
        stream: str = "merged",
        offset: int | None = None,
        limit: int | None = None,
        tail: str | None = None,
    ) -> bytes:
        """Return output as it is now.

        Args:
            command: whose.
            stream: stdout, stderr or merged.
            offset: first byte.
            limit: at most so many bytes.
            tail: ``"100"`` for the last bytes, ``"100l"`` for the last lines.
        """
        return self._do(flows.output(command, stream, offset, limit, tail))

    def stream_output(
        self,
        command: str,
        *,
        stream: str = "merged",
        offset: int | None = None,
        tail: str | None = None,
        follow: bool = False,
    ) -> Iterator[bytes]:
        """Yield output in pieces, through every break, holding little of it in memory.

        Args:
            command: whose.
            stream: stdout, stderr or merged.
            offset: first byte.
            tail: ``"100"`` for the last bytes, ``"100l"`` for the last lines.
            follow: go on until the command is finished.
        """
        retry = self._retry()
        while True:
            try:
                if retry.silent:
                    self._probe(command, retry)
                with self._connections(retry).stream(
                    "GET",
                    flows.output_path(command),
                    params=httpx.QueryParams(
                        tuple(flows.output_query(stream, offset, tail, follow=follow))
                    ),
                    extensions={"timeout": retry.stream_timeouts()},
                ) as response:
                    if not flows.is_output(response):
                        response.read()
                        raise error_of(*flows.refusal(response))
                    # From here on it is known where to go on.
                    offset, tail = int(response.headers["output-offset"]), None
                    retry.heard()
                    for data in response.iter_raw():
                        offset += len(data)
                        yield data
                        retry.answered()  # after it: a reader's time is no silence
            except (httpx.TransportError, ClientError) as error:
                time.sleep(retry.stream_failed(error))
            else:
                return

    def hosts(self) -> builtins.list[Host]:
        """Return all hosts."""
        return self._do(flows.hosts())

    def follow(self, command: str, *, after: int = 0) -> "Following":
        """Follow a command: iterate over its output from a position on, through every break.

        Args:
            command: whose output.
            after: position in the merged output.

        Returns:
            An iterator of `Chunk`; its ``command`` is how the command was seen last.
        """
        return Following(self, command, after)

    def run(self, script: str, **fields: Any) -> Result:
        """Submit a script, follow it to its end, and return all of it.

        Args:
            script: its text.
            fields: as of `submit`.
        """
        command = self.submit(script, **fields)
        parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        following = self.follow(command.id)
        for chunk in following:
            parts[chunk.stream].append(chunk.data)
        return Result(self.get(command.id), b"".join(parts["stdout"]), b"".join(parts["stderr"]))

    def _stream(self, command: str, follower: Follower) -> Iterator[Chunk]:
        retry = self._retry()
        while not follower.ended:
            follower.connected()
            try:
                if retry.silent:
                    self._probe(command, retry)
                with self._connections(retry).stream(
                    "GET",
                    flows.events_path(command),
                    headers=follower.headers,
                    extensions={"timeout": retry.stream_timeouts()},
                ) as response:
                    if not flows.is_events(response):
                        response.read()
                        raise error_of(*flows.refusal(response))
                    for data in response.iter_raw():
                        yield from follower.feed(data)
                        if follower.heard:
                            retry.answered()
                if not follower.ended:
                    raise flows.STREAM_CLOSED
            except (httpx.TransportError, ClientError) as error:
                time.sleep(retry.stream_failed(error))


class Following:
    """An iterator over a command's output, live and through breaks.

    Attributes:
        command: how the command was seen last, None before the first news.
        position: where it is in the merged output.
    """

    def __init__(self, client: Client, command: str, after: int) -> None:
        self._follower = Follower(after)
        self._chunks = client._stream(command, self._follower)  # noqa: SLF001 - its other half

    def __iter__(self) -> Iterator[Chunk]:
        return self._chunks

    @property
    def command(self) -> Command | None:
        """How the command was seen last."""
        return self._follower.command

    @property
    def position(self) -> int:
        """The position after the last chunk."""
        return self._follower.position
