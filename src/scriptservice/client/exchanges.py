"""What a client does, without input or output: generators of requests that are sent answers.

`Client` and `AsyncClient` carry the same flows out, so that there is one implementation.
"""

import time
import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import httpx2 as httpx

from scriptservice.client.problems import (
    ConnectionLostError,
    NotFoundError,
    UnexpectedAnswerError,
    error_of,
)
from scriptservice.client.retry import Retry, held_seconds
from scriptservice.client.types import Command, Host

LONGEST_WAIT_SECONDS = 60
STREAM_CLOSED = ConnectionLostError("the event stream was closed before its end")

T = TypeVar("T")
Query = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Request:
    """A request to be sent.

    Attributes:
        method: of HTTP.
        path: below the service's URL.
        query: pairs.
        json: the body as an object, None for no body.
        headers: more than the client always sends.
        wait_seconds: how long the service may hold the answer.
    """

    method: str
    path: str
    query: Query = field(default_factory=list)
    json: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    wait_seconds: float = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that came, whatever it says.

    Attributes:
        url: what was asked.
        status: of HTTP.
        content_type: of the body.
        headers: in lower case.
        body: the bytes.
        tries: how often the request had to be sent.
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
            ClientError: it has not; the class says what it is.
        """
        if self.status in statuses:
            return self
        raise error_of(self.url, self.status, self.content_type, self.body)

    def json(self) -> Any:
        """Return the body as an object.

        Raises:
            UnexpectedAnswerError: it is none.
        """
        import json

        try:
            return json.loads(self.body)
        except ValueError as error:
            message = f"cannot understand the answer of {self.url}: it is not JSON"
            raise UnexpectedAnswerError(message) from error

    def command(self) -> Command:
        """Return the command that the body describes.

        Raises:
            UnexpectedAnswerError: it describes none.
        """
        return self.read_as("command", Command.from_json)

    def read_as(self, what: str, reading: Callable[[Any], T]) -> T:
        """Return what the body describes.

        Args:
            what: that is, for the message.
            reading: makes it of the body as an object.

        Raises:
            UnexpectedAnswerError: it describes something else.
        """
        members = self.json()
        try:
            return reading(members)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"cannot understand the answer of {self.url}: it is no {what}"
            raise UnexpectedAnswerError(message) from error


Flow = Generator[Request, Answer, T]


def http_arguments(request: Request, retry: Retry) -> dict[str, Any]:
    """Return the next try of a request as the arguments of either HTTP client's ``request``."""
    return {
        "method": request.method,
        "url": request.path,
        "params": httpx.QueryParams(tuple(request.query)) if request.query else None,
        "json": request.json,
        "headers": request.headers,
        "extensions": {"timeout": retry.request_timeouts(request.wait_seconds)},
    }


def probe_arguments(command: str, retry: Retry) -> dict[str, Any]:
    """Return the question whether the service is there, as the arguments of ``request``."""
    return {
        "method": "GET",
        "url": _path(command),
        "extensions": {"timeout": retry.probe_timeouts()},
    }


def answer_of(response: httpx.Response, tries: int) -> Answer:
    """Return the answer that came.

    Args:
        response: read to its end.
        tries: how often the request had to be sent.

    Raises:
        ClientError: the service asks to be asked again.
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


def is_events(response: httpx.Response) -> bool:
    """Whether an answer is an event stream, and not a refusal or someone else's page."""
    content_type = response.headers.get("content-type", "")
    return response.status_code == 200 and content_type.startswith("text/event-stream")


def is_output(response: httpx.Response) -> bool:
    """Whether an answer is output, and not a refusal or someone else's page."""
    return response.status_code == 200 and "output-offset" in response.headers


def refusal(response: httpx.Response) -> tuple[str, int, str, bytes]:
    """Return what `error_of` needs of an answer that has been read."""
    content_type = response.headers.get("content-type", "")
    return str(response.url), response.status_code, content_type, response.content


def new_key() -> str:
    """Return a new Idempotency-Key."""
    return str(uuid.uuid4())


def _path(command: str, rest: str = "") -> str:
    from urllib.parse import quote

    return f"/v1/commands/{quote(command, safe='')}{rest}"


def _wait(seconds: float | None) -> Query:
    return [] if seconds is None else [("wait", str(seconds))]


def submit(
    fields: dict[str, Any], wait_seconds: float | None, key: str, silence_seconds: float
) -> Flow[Command]:
    """Submit a script; sent again with the same key it is the same command."""
    request = Request("POST", "/v1/commands", json=fields, headers={"Idempotency-Key": key})
    return (yield from _held(request, 201, wait_seconds, silence_seconds))


def get(command: str, wait_seconds: float | None, silence_seconds: float) -> Flow[Command]:
    """Get a command, perhaps only when it is finished."""
    request = Request("GET", _path(command))
    return (yield from _held(request, 200, wait_seconds, silence_seconds))


def _held(
    request: Request, status: int, wait_seconds: float | None, silence_seconds: float
) -> Flow[Command]:
    """Send a request, wait for the end of its command, and return the command as it is then.

    A held answer is silence, and a dead connection is silent too. So the service holds each
    answer only for as long as silence means nothing, and is then asked again.

    Args:
        request: without ``wait``.
        status: of the answer.
        wait_seconds: None not to wait.
        silence_seconds: after which a connection is suspected to be dead.
    """
    if wait_seconds is None or not 0 < wait_seconds <= LONGEST_WAIT_SECONDS:
        answer = yield replace(request, query=_wait(wait_seconds))  # the service judges it
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
        # An earlier answer without an end comes from a service that shuts down.
        if found.finished or rest <= 0 or now - asked_at < hold * 0.9:
            return found
        request, status = Request("GET", _path(found.id)), 200


def wait(command: str, timeout_seconds: float | None, silence_seconds: float) -> Flow[Command]:
    """Get a command once it is finished, or as it is when the time is over."""
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while True:
        rest = LONGEST_WAIT_SECONDS if deadline is None else max(0, deadline - time.monotonic())
        found = yield from get(command, min(rest, LONGEST_WAIT_SECONDS), silence_seconds)
        if found.finished or (deadline is not None and time.monotonic() >= deadline):
            return found


def page(query: Query) -> Flow[tuple[list[Command], str | None]]:
    """Get one page of a list, and the cursor of the next."""
    answer = yield Request("GET", "/v1/commands", query=query)
    return answer.expect(200).read_as("page of commands", _page)


def _page(members: Any) -> tuple[list[Command], str | None]:
    return [Command.from_json(item) for item in members["items"]], members["next_cursor"]


def list_query(
    *,
    status: list[str] | None = None,
    labels: dict[str, str] | None = None,
    text: str | None = None,
    host: str | None = None,
    created_after: str | None = None,
    created_before: str | None = None,
    id_part: str | None = None,
    page_size: int | None = None,
) -> Query:
    """Return filters as query parameters."""
    query: Query = [("status", each) for each in status or []]
    query += [("label", f"{key}={value}") for key, value in (labels or {}).items()]
    single = {
        "q": text,
        "host": host,
        "created_after": created_after,
        "created_before": created_before,
        "id": id_part,
        "limit": None if page_size is None else str(page_size),
    }
    return query + [(name, value) for name, value in single.items() if value is not None]


def stop(command: str, signal: str | None, grace_seconds: float | None) -> Flow[Command]:
    """Ask for a command to be stopped."""
    body = {"signal": signal, "grace_seconds": grace_seconds}
    answer = yield Request(
        "POST",
        _path(command, "/stop"),
        json={name: value for name, value in body.items() if value is not None},
    )
    return answer.expect(202).command()


def rerun(
    command: str, wait_seconds: float | None, key: str, silence_seconds: float
) -> Flow[Command]:
    """Submit the same again."""
    request = Request("POST", _path(command, "/rerun"), headers={"Idempotency-Key": key})
    return (yield from _held(request, 201, wait_seconds, silence_seconds))


def delete(command: str) -> Flow[None]:
    """Delete a finished command."""
    answer = yield Request("DELETE", _path(command))
    try:
        answer.expect(204)
    except NotFoundError:
        # Sent twice because the first answer was lost: then it is the first that deleted it.
        if answer.tries == 1:
            raise


def output(
    command: str,
    stream: str,
    offset: int | None,
    limit: int | None,
    tail: str | None,
) -> Flow[bytes]:
    """Get output as it is now."""
    wanted = {"stream": stream, "offset": offset, "limit": limit, "tail": tail}
    query = [(name, str(value)) for name, value in wanted.items() if value is not None]
    answer = yield Request("GET", output_path(command), query=query)
    if "output-offset" not in answer.headers:
        answer.expect()  # someone else's 200
    return answer.expect(200).body


def output_query(stream: str, offset: int | None, tail: str | None, *, follow: bool) -> Query:
    """Return which output is to be streamed as query parameters."""
    wanted = {"stream": stream, "offset": offset, "tail": tail}
    query = [(name, str(value)) for name, value in wanted.items() if value is not None]
    return query + ([("follow", "true")] if follow else [])


def hosts() -> Flow[list[Host]]:
    """Get all hosts."""
    answer = yield Request("GET", "/v1/hosts")
    return answer.expect(200).read_as("list of hosts", _hosts)


def _hosts(members: Any) -> list[Host]:
    return [
        Host(item["name"], item["status"], item["running"], item["capacity"], item)
        for item in members["items"]
    ]


def events_path(command: str) -> str:
    """Return the path of a command's event stream."""
    return _path(command, "/events")


def output_path(command: str) -> str:
    """Return the path of a command's output."""
    return _path(command, "/output")
