"""Makes the requests of each method of a client, and reads the answers.

An exchange is a generator: it yields a request, receives the answer from ``send``, and at the end
returns the result. An exchange does no network I/O itself. `Client` and `AsyncClient` run the same
exchanges, so the code of each exchange exists only once.
"""

import json
import time
import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, Unpack
from urllib.parse import quote

import httpx2 as httpx

from scriptservice.client.problems import (
    NotFoundError,
    OffsetMismatchError,
    UnexpectedAnswerError,
    error_of,
)
from scriptservice.client.retry import Retry, held_seconds
from scriptservice.client.types import Command, Host, InputReceipt, ListFilters, SubmitFields

LONGEST_WAIT_SECONDS = 60

T = TypeVar("T")
Query = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the service.

    Attributes:
        method: the HTTP method.
        path: path of the request, relative to the service's URL.
        query: query parameters, as pairs of name and value.
        json: the body, as an object to encode as JSON; None for no JSON body.
        content: the body, as bytes; None for no such body.
        headers: headers to send, besides those that the client always sends.
        wait_seconds: how long the service may hold the answer back; 0 if the request does not ask
            the service to wait.
        may_repeat: whether the request may be sent again after its answer was lost.
    """

    method: str
    path: str
    query: Query = field(default_factory=list)
    json: Any = None
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    wait_seconds: float = 0
    may_repeat: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request; it may grant or refuse the request.

    Attributes:
        url: URL of the request.
        status: the HTTP status.
        content_type: content type of the body; empty if the answer has none.
        headers: values of the headers; the keys are the names in lower case.
        body: the bytes of the body.
        tries: how many times the request was sent.
    """

    url: str
    status: int
    content_type: str
    headers: dict[str, str]
    body: bytes
    tries: int

    def expect(self, *statuses: int) -> "Answer":
        """Return the answer if it has one of these statuses.

        Raises:
            ClientError: the answer has another status; `error_of` chooses the class of the error.
        """
        if self.status in statuses:
            return self
        raise error_of(self.url, self.status, self.content_type, self.body)

    def json(self) -> Any:
        """Return the object that the body encodes as JSON.

        Raises:
            UnexpectedAnswerError: the body is not JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            message = f"cannot understand the answer of {self.url}: it is not JSON"
            raise UnexpectedAnswerError(message) from error

    def command(self) -> Command:
        """Return the command that the body describes.

        Raises:
            UnexpectedAnswerError: the body does not describe a command.
        """
        return self.read_as("command", Command.from_json)

    def read_as(self, what: str, parse: Callable[[Any], T]) -> T:
        """Return the result that the body describes.

        Args:
            what: name of the result, for the error message.
            parse: makes the result from the object that the body encodes.

        Raises:
            UnexpectedAnswerError: the body describes something else.
        """
        members = self.json()
        try:
            return parse(members)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"cannot understand the answer of {self.url}: it is not a {what}"
            raise UnexpectedAnswerError(message) from error


Exchange = Generator[Request, Answer, T]


def http_arguments(request: Request, retry: Retry) -> dict[str, Any]:
    """Return the arguments of httpx's ``request`` for the next try of a request."""
    return {
        "method": request.method,
        "url": request.path,
        "params": httpx.QueryParams(tuple(request.query)) if request.query else None,
        "json": request.json,
        "content": request.content,
        "headers": request.headers,
        "extensions": {"timeout": retry.request_timeouts(request.wait_seconds)},
    }


def probe_arguments(command_id: str, retry: Retry) -> dict[str, Any]:
    """Return the arguments of httpx's ``request`` to check whether the service answers."""
    return {
        "method": "GET",
        "url": command_path(command_id),
        "extensions": {"timeout": retry.probe_timeouts()},
    }


def answer_of(response: httpx.Response, tries: int) -> Answer:
    """Return a response of httpx as an `Answer`.

    Args:
        response: the response, with its body read to the end.
        tries: how many times the request was sent.

    Raises:
        ClientError: the service asks to send the request again later (429 or 503).
    """
    answer = Answer(
        url=str(response.url),
        status=response.status_code,
        content_type=response.headers.get("content-type", ""),
        headers=dict(response.headers),
        body=response.content,
        tries=tries,
    )
    if answer.status in (429, 503):
        answer.expect()
    return answer


def new_idempotency_key() -> str:
    """Return a new Idempotency-Key."""
    return str(uuid.uuid4())


def command_path(command_id: str, part: str = "") -> str:
    """Return the URL path of a command, or of a part of a command such as ``output``."""
    return f"/v1/commands/{quote(command_id, safe='')}{part and f'/{part}'}"


def _wait(seconds: float | None) -> Query:
    return [] if seconds is None else [("wait", str(seconds))]


def submit(
    script: str,
    fields: SubmitFields,
    wait_seconds: float | None,
    idempotency_key: str | None,
    silence_seconds: float,
) -> Exchange[Command]:
    """Submit a script. If the request is sent twice, the service makes only one command."""
    key = idempotency_key or new_idempotency_key()
    body = {"script": script, **fields}
    request = Request("POST", "/v1/commands", json=body, headers={"Idempotency-Key": key})
    return (yield from _held(request, 201, wait_seconds, silence_seconds))


def get(command_id: str, wait_seconds: float | None, silence_seconds: float) -> Exchange[Command]:
    """Get a command as it is now, or wait for its end first."""
    request = Request("GET", command_path(command_id))
    return (yield from _held(request, 200, wait_seconds, silence_seconds))


def _held(
    request: Request, status: int, wait_seconds: float | None, silence_seconds: float
) -> Exchange[Command]:
    """Send a request, wait until its command has finished, and return the command.

    While the service holds an answer back, nothing arrives on the connection, as if the connection
    were dead. So each request lets the service hold the answer for less than ``silence_seconds``.
    If the command has not finished by then, the client sends a further request.

    Args:
        request: the first request, without a ``wait`` parameter.
        status: the HTTP status that the first answer must have.
        wait_seconds: how long to wait in all. After this time the unfinished command is returned.
            None not to wait.
        silence_seconds: how long a connection may be silent before it is suspected to be dead.
    """
    if wait_seconds is None or not 0 < wait_seconds <= LONGEST_WAIT_SECONDS:
        answer = yield replace(request, query=_wait(wait_seconds))  # the service refuses bad values
        return answer.expect(status).command()
    deadline = time.monotonic() + wait_seconds
    rest = wait_seconds
    while True:
        hold = min(rest, held_seconds(silence_seconds))
        asked_at = time.monotonic()
        answer = yield replace(request, query=_wait(hold), wait_seconds=hold)
        found = answer.expect(status).command()
        now = time.monotonic()
        rest = deadline - now
        # A service that shuts down answers before `hold` has passed. Do not ask it again.
        if found.finished or rest <= 0 or now - asked_at < hold * 0.9:
            return found
        request, status = Request("GET", command_path(found.id)), 200


def wait(
    command_id: str, timeout_seconds: float | None, silence_seconds: float
) -> Exchange[Command]:
    """Wait until a command has finished or the time is over, and return the command."""
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while True:
        rest = LONGEST_WAIT_SECONDS if deadline is None else max(0, deadline - time.monotonic())
        found = yield from get(command_id, min(rest, LONGEST_WAIT_SECONDS), silence_seconds)
        if found.finished or (deadline is not None and time.monotonic() >= deadline):
            return found


def page(query: Query) -> Exchange[tuple[list[Command], str | None]]:
    """Get one page of a list, and the cursor of the next page (None after the last page)."""
    answer = yield Request("GET", "/v1/commands", query=query)
    return answer.expect(200).read_as("page of commands", _page)


def _page(members: Any) -> tuple[list[Command], str | None]:
    return [Command.from_json(item) for item in members["items"]], members["next_cursor"]


def list_query(**filters: Unpack[ListFilters]) -> Query:
    """Return filters as query parameters.

    Raises:
        TypeError: there is no filter with one of these names.
    """
    unknown = filters.keys() - ListFilters.__annotations__
    if unknown:
        message = f"cannot list by {', '.join(sorted(unknown))}: there is no such filter"
        raise TypeError(message)
    query: Query = [("status", each) for each in filters.get("status") or []]
    query += [("label", f"{key}={value}") for key, value in (filters.get("labels") or {}).items()]
    single = {
        "q": filters.get("text"),
        "host": filters.get("host"),
        "created_after": filters.get("created_after"),
        "created_before": filters.get("created_before"),
        "id": filters.get("id_part"),
        "limit": filters.get("page_size"),
    }
    return query + [(name, str(value)) for name, value in single.items() if value is not None]


def stop(command_id: str, signal: str | None, grace_seconds: float | None) -> Exchange[Command]:
    """Ask the service to stop a command."""
    body = {"signal": signal, "grace_seconds": grace_seconds}
    answer = yield Request(
        "POST",
        command_path(command_id, "stop"),
        json={name: value for name, value in body.items() if value is not None},
    )
    return answer.expect(202).command()


def signal(command_id: str, name: str) -> Exchange[Command]:
    """Send a signal to a script. If the answer is lost, the signal is not sent again."""
    path = command_path(command_id, "signal")
    answer = yield Request("POST", path, json={"signal": name}, may_repeat=False)
    return answer.expect(202).command()


def send_input(
    command_id: str,
    data: bytes,
    offset: int | None,
    close: bool,  # noqa: FBT001 - as in Client
) -> Exchange[InputReceipt]:
    """Send input to a script. With an offset, the request may be sent again."""
    query = [] if offset is None else [("offset", str(offset))]
    query += [("close", "true")] if close else []
    answer = yield Request(
        "POST",
        command_path(command_id, "stdin"),
        query=query,
        content=data,
        headers={"Content-Type": "application/octet-stream"},
        may_repeat=offset is not None,
    )
    try:
        return answer.expect(202).read_as("receipt of input", _receipt)
    except OffsetMismatchError as error:
        # If the request was sent more than once, an earlier try may have been accepted, and its
        # answer was lost. Then the service counts these bytes already.
        if answer.tries > 1 and offset is not None and _offset_of(error) == offset + len(data):
            return InputReceipt(len(data), offset + len(data))
        raise


def _receipt(members: Any) -> InputReceipt:
    return InputReceipt(int(members["accepted_bytes"]), int(members["offset"]))


def _offset_of(error: OffsetMismatchError) -> Any:
    return error.members.get("offset")


def rerun(
    command_id: str,
    wait_seconds: float | None,
    idempotency_key: str | None,
    silence_seconds: float,
) -> Exchange[Command]:
    """Submit a command's script and fields again.

    If the request is sent twice, the service makes only one new command.
    """
    key = idempotency_key or new_idempotency_key()
    path = command_path(command_id, "rerun")
    request = Request("POST", path, headers={"Idempotency-Key": key})
    return (yield from _held(request, 201, wait_seconds, silence_seconds))


def delete(command_id: str) -> Exchange[None]:
    """Delete a finished command."""
    answer = yield Request("DELETE", command_path(command_id))
    try:
        answer.expect(204)
    except NotFoundError:
        # If the request was sent more than once, an earlier try may have deleted the command, and
        # its answer was lost. Then "not found" means that the deletion has succeeded.
        if answer.tries == 1:
            raise


def output(
    command_id: str,
    stream: str,
    offset: int | None,
    limit: int | None,
    tail: str | None,
) -> Exchange[bytes]:
    """Get the part of a command's output that is stored so far."""
    parameters = {"stream": stream, "offset": offset, "limit": limit, "tail": tail}
    query = [(name, str(value)) for name, value in parameters.items() if value is not None]
    answer = yield Request("GET", command_path(command_id, "output"), query=query)
    if "output-offset" not in answer.headers:
        # Another program has answered. Without arguments, `expect` raises even for status 200.
        answer.expect()
    return answer.expect(200).body


def hosts() -> Exchange[list[Host]]:
    """Get all hosts."""
    answer = yield Request("GET", "/v1/hosts")
    return answer.expect(200).read_as("list of hosts", _hosts)


def _hosts(members: Any) -> list[Host]:
    return [
        Host(item["name"], item["status"], item["running"], item["capacity"], item)
        for item in members["items"]
    ]
