"""The blocking client."""

import builtins
import os
import time
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx2 as httpx

from scriptservice.client import exchanges
from scriptservice.client.attachment import Attachment
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


class Client:
    """Uses one service. Requests and streams continue when the service restarts.

    If a request gets no answer, the client sends the request again after growing pauses, until
    ``retry_seconds`` are over. Each submission has an Idempotency-Key, so a submission that is sent
    twice makes only one command. Use the client as a context manager, or call `close` at the end.
    Several threads may share one client.

    Args:
        url: URL of the service; None to use the environment variable ``SCRIPTSERVICE_URL``, or
            http://127.0.0.1:8000 if the variable is not set.
        token: access token; None to use ``SCRIPTSERVICE_TOKEN``, else the token that ``login`` has
            kept for the URL, else the file ``token`` in the data directory.
        ca_file: PEM file with the certificates to trust. They replace the certificates that this
            machine trusts. The file is needed if a private authority has signed the certificate of
            the service or of the proxy. None to use ``SCRIPTSERVICE_CA_FILE``, or the certificates
            that this machine trusts if the variable is not set.
        proxy: URL of an HTTP proxy, ``http://`` or ``https://``, with user and password if the
            proxy needs them; None to use ``SCRIPTSERVICE_PROXY``, or no proxy if the variable is
            not set. ``HTTPS_PROXY`` and similar variables are ignored.
        retry_seconds: how long to keep trying, counted from the last time that the service sent
            something; 0 to try only once. If a connection is open but the service sends nothing,
            a value below 5 counts as 5.
        silence_seconds: how long a stream may be silent. After this time, the client checks on a
            new connection whether the service answers. The check needs time before
            ``retry_seconds`` are over. So a value above ``retry_seconds`` - 2 counts as
            ``retry_seconds`` - 2, but never as less than 5.
        first_contact_seconds: how long to try while no connection can be made and the service has
            never answered this client; None for ``retry_seconds``.
        on_unreachable: called once if the first connection cannot be made within a second, with the
            number of seconds that the client goes on trying; None for no call.

    Raises:
        ClientError: the URL, the token, the CA file or the proxy cannot be used.

    All methods raise subclasses of `ClientError`: a `ProblemError` if the service refuses the
    request, `ConnectionLostError` if nobody answers in time, and `UnexpectedAnswerError` if the
    answer is not from a ScriptService.
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
        self._http = httpx.Client(**self._connection.http_options(idle_connections=20))
        # `_http_new` keeps no idle connections, so each of its requests opens a new connection. It
        # is used after a failed try, because the idle connections of `_http` may all be dead
        # although the service works.
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
        """Submit a script. When this method returns, the command is stored durably.

        Args:
            script: text of the script, 1 byte to 1 MiB in UTF-8.
            wait_seconds: how long to wait for the command's end, at most 60; None not to wait.
            idempotency_key: requests with the same key make only one command; None for a new key.
            fields: all other fields of the command; see `SubmitFields`.

        Returns:
            The new command. It may be unfinished, even if ``wait_seconds`` is given.

        Raises:
            ValidationProblemError: a field has a value that the service does not accept.
            IdempotencyMismatchError: the key belongs to a different request.
            GoneError: the command that was made with this key has been deleted.
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
        """Submit a script, wait until it has finished, and return the command and all its output.

        All output is held in memory. Use `submit` and `follow` if the output may be large.

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
        """Return a command as it is now, or wait for its end first.

        Args:
            command_id: id of the command.
            wait_seconds: how long to wait for the command's end, at most 60; None not to wait.

        Raises:
            NotFoundError: there is no such command.
        """
        return self._do(exchanges.get(command_id, wait_seconds, self._connection.silence_seconds))

    def wait(self, command_id: str, *, timeout_seconds: float | None = None) -> Command:
        """Wait until a command has finished.

        Args:
            command_id: id of the command.
            timeout_seconds: how long to wait; None to wait without limit.

        Returns:
            The finished command, or the unfinished command if the time is over.

        Raises:
            NotFoundError: there is no such command.
        """
        return self._do(
            exchanges.wait(command_id, timeout_seconds, self._connection.silence_seconds)
        )

    def follow(self, command_id: str, *, after: int = 0) -> "Following":
        """Follow a command's output until the command has finished.

        The iterator yields the output that is stored, then new output as soon as it is stored. If
        the connection breaks, no byte is lost or repeated.

        Args:
            command_id: id of the command.
            after: the position in the merged output at which to begin, in bytes.

        Returns:
            An iterator of `Chunk`. Errors are raised by the iteration, not by this call.
        """
        reader = EventReader(command_id, after)
        return Following(self._stream(reader), reader)

    def send_input(
        self, command_id: str, data: bytes, *, offset: int | None = None, close: bool = False
    ) -> InputReceipt:
        """Send input to an interactive command that runs. The service takes all of it or nothing.

        Args:
            command_id: id of the command.
            data: at most 1 MiB; may be empty, for example to close only.
            offset: number of bytes of input that were accepted so far, as the previous call
                returned it; 0 at first. With an offset, the client sends the input again if the
                answer is lost, and it arrives only once. None to append without that check; if the
                answer is lost then, `ConnectionLostError` is raised at once.
            close: whether the input ends after these bytes.

        Raises:
            NotInteractiveError: the command takes no input.
            NotRunningError: the command has not started or has ended, or its input was closed.
            OffsetMismatchError: a different number of bytes was accepted; ``members["offset"]`` is
                this number.
            TooManyRequestsError: the script has not read its earlier input for too long.
            NotFoundError: there is no such command.
        """
        return self._do(exchanges.send_input(command_id, data, offset, close))

    def signal(self, command_id: str, signal: str) -> Command:
        """Send a signal to the process group of a running script.

        Args:
            command_id: id of the command.
            signal: name of the signal, such as ``HUP`` or ``SIGHUP``.

        Raises:
            NotRunningError: the command does not run.
            ConnectionLostError: the answer was lost. The signal may have been sent, so it is not
                sent again.
            NotFoundError: there is no such command.
        """
        return self._do(exchanges.signal(command_id, signal))

    def attach(self, command_id: str, *, after: int | None = None) -> Attachment:
        """Attach to an interactive command: receive its output and send input at the same time.

        Args:
            command_id: id of the command. A queued command is waited for.
            after: the position in the merged output at which to begin, in bytes; None for the
                present end.

        Returns:
            A context manager, which connects and iterates over the output. When it connects, it
            raises `AlreadyFinishedError`, `NotInteractiveError` or `NotFoundError` if it must.
        """
        return Attachment(self._connection, command_id, after)

    def stop(
        self, command_id: str, *, signal: str | None = None, grace_seconds: float | None = None
    ) -> Command:
        """Ask the service to stop a command.

        The command may still run when this method returns. Use `wait` to wait for its end.

        Args:
            command_id: id of the command.
            signal: the first signal to send, such as ``INT`` or ``SIGINT``; None for SIGTERM.
            grace_seconds: time from that signal to SIGKILL, 0 to 3600; None for the command's own
                ``grace_seconds``.

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
            command_id: id of the command to repeat.
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
            command_id: id of the command.

        Raises:
            NotFinishedError: the command has not ended.
            NotFoundError: there is no such command.
        """
        self._do(exchanges.delete(command_id))

    # What is stored

    def list(self, **filters: Unpack[ListFilters]) -> Iterator[Command]:
        """Yield commands, newest first. The client fetches a page only when the page is needed.

        Args:
            filters: see `ListFilters`; without filters, all commands are yielded.
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
        """Return the part of a command's output that is stored so far.

        Args:
            command_id: id of the command.
            stream: ``stdout``, ``stderr`` or ``merged``.
            offset: offset in that stream of the first byte to return; None for 0.
            limit: maximum number of bytes to return; None for no limit.
            tail: ``"100"`` for the last 100 bytes, ``"100l"`` for the last 100 lines. If ``tail``
                is given, ``offset`` and ``limit`` must be None.

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
        """Yield the output of a command in pieces. Only one piece at a time is kept in memory.

        If the connection breaks, no byte is lost or repeated.

        Args:
            command_id: id of the command.
            stream: ``stdout``, ``stderr`` or ``merged``.
            offset: offset in that stream of the first byte to yield; None for 0.
            tail: ``"100"`` to begin at the last 100 bytes, ``"100l"`` to begin at the last 100
                lines. If ``tail`` is given, ``offset`` must be None.
            follow: whether to yield new output until the command has finished. If False, only the
                output that is stored now is yielded.
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
                time.sleep(retry.pause_or_raise(error, may_repeat=request.may_repeat))

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
                            # The caller may have worked for long before it asked for the next
                            # piece. This call keeps that time from counting as silence.
                            retry.answered()
                reader.closed()
            except (httpx.TransportError, ClientError) as error:
                time.sleep(retry.stream_failed(error))

    def _probe(self, command_id: str, retry: Retry) -> None:
        """Check on a new connection whether the service answers.

        Raises:
            ClientError: the service refuses the request, for example because the command was
                deleted.
            httpx.TransportError: the service does not answer.
        """
        response = self._http_new.request(**exchanges.probe_arguments(command_id, retry))
        exchanges.answer_of(response, retry.tries + 1).expect(200)
        retry.answered()


class Following(Followed):
    """An iterator over a command's output. If the connection breaks, the iterator reconnects.

    `Client.follow` returns such an iterator. Its ``position`` tells how far the output was read.
    Its ``command`` is the command as the service last described it.
    """

    def __init__(self, chunks: Generator[Chunk, None, None], reader: EventReader) -> None:
        super().__init__(reader)
        self._chunks = chunks

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        return next(self._chunks)

    def close(self) -> None:
        """Close the connection and end the iteration."""
        self._chunks.close()
