"""The blocking client."""

import builtins
import os
import time
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx2 as httpx

from scriptservice.client import exchanges
from scriptservice.client.connection import Connection
from scriptservice.client.problems import ClientError, error_of_response
from scriptservice.client.retry import SILENCE_SECONDS, Retry
from scriptservice.client.streams import Chunk, EventReader, Followed, OutputReader, StreamReader
from scriptservice.client.types import Command, Host, ListFilters, Result, SubmitFields

T = TypeVar("T")


class Client:
    """Uses one service, and goes on through its restarts.

    A request that gets no answer is sent again, after growing pauses, for ``retry_seconds``.
    Submits carry an Idempotency-Key, so that a request that is sent twice makes one command.
    Use the client as a context manager, or call `close`. Several threads may share it.

    Args:
        url: of the service. None: ``SCRIPTSERVICE_URL``, else http://127.0.0.1:8000.
        token: None: ``SCRIPTSERVICE_TOKEN``, else the file ``token`` in the data directory.
        ca_file: PEM file with the certificates to trust instead of those of this machine, for a
            service or a proxy whose certificate a private authority has signed. None:
            ``SCRIPTSERVICE_CA_FILE``, else those of this machine.
        proxy: URL of an HTTP proxy, ``http://`` or ``https://``, with user and password if need
            be. None: ``SCRIPTSERVICE_PROXY``, else none; ``HTTPS_PROXY`` and the like are ignored.
        retry_seconds: how long to go on after the last sign of the service; 0 to try once. Where
            a connection is open and silent, less than 5 s counts as 5 s.
        silence_seconds: how long a stream may be silent before the client asks on a new connection
            whether the service is there. It is shortened to leave 2 s of ``retry_seconds``.
        first_contact_seconds: how long to try while no connection could be made yet; None for
            ``retry_seconds``.

    Raises:
        ClientError: the URL, the token, the CA file or the proxy cannot be used.

    All methods raise subclasses of `ClientError`: of `ProblemError` if the service refuses,
    `ConnectionLostError` if nobody answers in time, and `UnexpectedAnswerError` if what answers is
    not a ScriptService.
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
    ) -> None:
        self._connection = Connection(
            url,
            token,
            ca_file=ca_file,
            proxy=proxy,
            retry_seconds=retry_seconds,
            silence_seconds=silence_seconds,
            first_contact_seconds=first_contact_seconds,
        )
        self._http = httpx.Client(**self._connection.http_options(idle_connections=20))
        # A connection that fell silent is no evidence about the service, and neither are those
        # that were opened before it: each further try has a connection of its own.
        self._http_new = httpx.Client(**self._connection.http_options(idle_connections=0))

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
        """The service's URL, without a slash at its end."""
        return self._connection.url

    # The life of a command

    def submit(
        self,
        script: str,
        *,
        wait_seconds: float | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[SubmitFields],
    ) -> Command:
        """Submit a script; the command is durable when this returns.

        Args:
            script: its text, 1 byte to 1 MiB of UTF-8.
            wait_seconds: wait up to that long for the command's end, at most 60.
            idempotency_key: requests with the same key make one command; None for a new key.
            fields: see `SubmitFields`.

        Returns:
            The new command, finished or not.

        Raises:
            ValidationProblemError: a field has a value that the service does not take.
            IdempotencyMismatchError: the key belongs to a different request.
            GoneError: the command that was made with the key has been deleted.
            StorageFullError: the service's disk is full.
        """
        silence = self._connection.silence_seconds
        return self._do(exchanges.submit(script, fields, wait_seconds, idempotency_key, silence))

    def run(
        self,
        script: str,
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[SubmitFields],
    ) -> Result:
        """Submit a script, follow it to its end, and return its outcome with all of its output.

        All output is held in memory; use `submit` and `follow` if it may be large.

        Args:
            script: see `submit`.
            idempotency_key: see `submit`.
            fields: see `SubmitFields`.
        """
        command = self.submit(script, idempotency_key=idempotency_key, **fields)
        parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        for chunk in self.follow(command.id):
            parts[chunk.stream].append(chunk.data)
        return Result(self.get(command.id), b"".join(parts["stdout"]), b"".join(parts["stderr"]))

    def get(self, command_id: str, *, wait_seconds: float | None = None) -> Command:
        """Return a command as it is now.

        Args:
            command_id: its id.
            wait_seconds: wait up to that long for its end, at most 60.

        Raises:
            NotFoundError: there is no such command.
        """
        return self._do(exchanges.get(command_id, wait_seconds, self._connection.silence_seconds))

    def wait(self, command_id: str, *, timeout_seconds: float | None = None) -> Command:
        """Wait for a command's end.

        Args:
            command_id: its id.
            timeout_seconds: None to wait without limit.

        Returns:
            The command in its final status, or as it is after ``timeout_seconds``.

        Raises:
            NotFoundError: there is no such command.
        """
        return self._do(
            exchanges.wait(command_id, timeout_seconds, self._connection.silence_seconds)
        )

    def follow(self, command_id: str, *, after: int = 0) -> "Following":
        """Follow a command's output: what is there, then what comes, until it is finished.

        Breaks of the connection neither lose nor repeat a byte.

        Args:
            command_id: its id.
            after: the position in the merged output at which to begin.

        Returns:
            An iterator of `Chunk`. Its errors are raised by the iteration.
        """
        reader = EventReader(command_id, after)
        return Following(self._stream(reader), reader)

    def stop(
        self, command_id: str, *, signal: str | None = None, grace_seconds: float | None = None
    ) -> Command:
        """Ask for a command to be stopped; use `wait` to wait until nothing of it is left.

        Args:
            command_id: its id.
            signal: the first signal, such as ``INT`` or ``SIGINT``; None for SIGTERM.
            grace_seconds: from that signal to SIGKILL, 0 to 3600; None for the command's own.

        Raises:
            AlreadyFinishedError: the command has ended.
            NotFoundError: there is no such command.
        """
        return self._do(exchanges.stop(command_id, signal, grace_seconds))

    def rerun(
        self,
        command_id: str,
        *,
        wait_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Command:
        """Submit the same script with the same fields again.

        Args:
            command_id: of the command to repeat.
            wait_seconds: see `submit`.
            idempotency_key: see `submit`.

        Returns:
            The new command.
        """
        silence = self._connection.silence_seconds
        return self._do(exchanges.rerun(command_id, wait_seconds, idempotency_key, silence))

    def delete(self, command_id: str) -> None:
        """Delete a finished command and its output.

        Args:
            command_id: its id.

        Raises:
            NotFinishedError: the command has not ended.
            NotFoundError: there is no such command.
        """
        self._do(exchanges.delete(command_id))

    # What is stored

    def list(self, **filters: Unpack[ListFilters]) -> Iterator[Command]:
        """Yield commands, newest first; further pages are fetched as they are needed.

        Args:
            filters: see `ListFilters`; without any, all commands.
        """
        query = exchanges.list_query(**filters)
        cursor: str | None = ""
        while cursor is not None:
            more = [("cursor", cursor)] if cursor else []
            items, cursor = self._do(exchanges.page(query + more))
            yield from items

    def output(
        self,
        command_id: str,
        *,
        stream: str = "merged",
        offset: int | None = None,
        limit: int | None = None,
        tail: str | None = None,
    ) -> bytes:
        """Return output as it is now.

        Args:
            command_id: its id.
            stream: stdout, stderr or merged.
            offset: first byte, counted in that stream.
            limit: at most that many bytes.
            tail: ``"100"`` for the last 100 bytes, ``"100l"`` for the last 100 lines; not together
                with ``offset`` or ``limit``.

        Raises:
            NotFoundError: there is no such command.
        """
        return self._do(exchanges.output(command_id, stream, offset, limit, tail))

    def stream_output(
        self,
        command_id: str,
        *,
        stream: str = "merged",
        offset: int | None = None,
        tail: str | None = None,
        follow: bool = False,
    ) -> Iterator[bytes]:
        """Yield output in pieces, of which one at a time is in memory.

        Breaks of the connection neither lose nor repeat a byte.

        Args:
            command_id: its id.
            stream: stdout, stderr or merged.
            offset: first byte, counted in that stream.
            tail: ``"100"`` for the last 100 bytes, ``"100l"`` for the last 100 lines.
            follow: go on until the command is finished.
        """
        return self._stream(OutputReader(command_id, stream, offset, tail, follow=follow))

    def hosts(self) -> builtins.list[Host]:
        """Return all hosts."""
        return self._do(exchanges.hosts())

    # Requests and streams

    def _connections(self, retry: Retry) -> httpx.Client:
        return self._http_new if retry.new_connection else self._http

    def _do(self, exchange: exchanges.Exchange[T]) -> T:
        try:
            request = next(exchange)
            while True:
                request = exchange.send(self._send(request))
        except StopIteration as end:
            result: T = end.value
            return result

    def _send(self, request: exchanges.Request) -> exchanges.Answer:
        retry = self._connection.retry()
        while True:
            try:
                http = self._connections(retry)
                response = http.request(**exchanges.http_arguments(request, retry))
                self._connection.answered()
                return exchanges.answer_of(response, retry.tries + 1)
            except (httpx.TransportError, ClientError) as error:
                time.sleep(retry.pause_or_raise(error))

    def _stream(self, reader: StreamReader[T]) -> Generator[T, None, None]:
        retry = self._connection.retry()
        while not reader.ended:
            try:
                if retry.silent:
                    self._probe(reader.command_id, retry)
                extensions = {"timeout": retry.stream_timeouts()}
                with self._connections(retry).stream(
                    **reader.request(), extensions=extensions
                ) as response:
                    if not reader.accepts(response):
                        response.read()
                        raise error_of_response(response)
                    if reader.heard:
                        retry.heard()
                    for data in response.iter_raw():
                        yield from reader.feed(data)
                        if reader.heard:
                            retry.answered()  # after the yield: the caller's own time is no silence
                reader.closed()
            except (httpx.TransportError, ClientError) as error:
                time.sleep(retry.stream_failed(error))

    def _probe(self, command_id: str, retry: Retry) -> None:
        """Ask on a new connection whether the service is there.

        Raises:
            ClientError: the service refuses, for example because the command was deleted.
            httpx.TransportError: the service does not answer.
        """
        response = self._http_new.request(**exchanges.probe_arguments(command_id, retry))
        exchanges.answer_of(response, retry.tries + 1).expect(200)
        retry.answered()


class Following(Followed):
    """An iterator over a command's output as it comes, through breaks of the connection.

    `Client.follow` makes it. ``command`` and ``position`` say how far it is.
    """

    def __init__(self, chunks: Generator[Chunk, None, None], reader: EventReader) -> None:
        super().__init__(reader)
        self._chunks = chunks

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        return next(self._chunks)

    def close(self) -> None:
        """Close the connection; the iteration ends."""
        self._chunks.close()
