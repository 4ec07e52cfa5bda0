"""Each problem type of the contract is one class, and nobody else's answer is a traceback."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from scriptservice import AsyncClient, Client
from scriptservice.client import problems
from scriptservice.client.problems import ClientError, ConnectionLostError, UnexpectedAnswerError
from support.service import PATIENCE_SECONDS, Service

ID = "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55"
TYPES = {
    "bad-request", "validation", "unauthenticated", "forbidden", "not-found",
    "method-not-allowed", "already-finished", "not-finished", "busy", "not-interactive",
    "not-running",
    "offset-mismatch", "gone", "too-large", "unsupported-media-type", "range-not-satisfiable",
    "host-not-allowed", "host-unavailable", "idempotency-mismatch", "too-many-requests", "internal",
    "store-unavailable", "storage-full", "headers-too-large",
}  # fmt: skip
VERBS: list[Callable[[Client], Any]] = [
    lambda client: client.submit("true"),
    lambda client: client.get(ID),
    lambda client: client.wait(ID, timeout_seconds=1),
    lambda client: list(client.list()),
    lambda client: client.stop(ID),
    lambda client: client.rerun(ID),
    lambda client: client.delete(ID),
    lambda client: client.output(ID),
    lambda client: list(client.stream_output(ID)),
    lambda client: list(client.stream_output(ID, follow=True)),
    lambda client: list(client.follow(ID)),
    lambda client: client.hosts(),
    lambda client: client.run("true"),
]


@contextmanager
def answering(status: int, kind: str, body: bytes, **headers: str) -> Iterator[str]:
    """Somebody who answers everything alike; gives the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_DELETE = do_GET  # noqa: N815 - names of the standard library

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(PATIENCE_SECONDS)


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_problem_type_is_its_class(kind: str) -> None:
    members = {
        "type": f"/problems/{kind}", "title": "T", "status": 499, "detail": "cannot do it",
        "instance": "/x", "errors": [{"field": "f", "message": "m"}],
    }  # fmt: skip
    error = problems.error_of(
        "http://x/", 499, "application/problem+json; charset=utf-8", json.dumps(members).encode()
    )
    words = "".join(word.capitalize() for word in kind.split("-"))
    names = {f"{words}Error", f"{words}ProblemError"}
    assert type(error).__name__ in names
    assert isinstance(error, problems.ProblemError)
    assert (error.type, error.status, error.detail) == (f"/problems/{kind}", 499, "cannot do it")
    assert error.errors == [{"field": "f", "message": "m"}]
    assert str(error) == "cannot do it"


def test_there_is_no_other_class() -> None:
    assert set(problems.PROBLEMS) == TYPES


def test_what_the_service_says_is_in_the_list() -> None:
    from scriptservice.server.http.problem_responses import TITLES

    assert set(TITLES) <= TYPES


def test_a_problem_of_a_newer_service() -> None:
    members = {"type": "/problems/new", "detail": "cannot do something new", "errors": None}
    error = problems.error_of("u", 400, "application/problem+json", json.dumps(members).encode())
    assert type(error) is problems.ProblemError
    assert str(error) == "cannot do something new"


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"null", b"{}", b"\xff", b'"type"'])
def test_a_problem_that_is_none(body: bytes) -> None:
    error = problems.error_of("http://u", 400, "application/problem+json", body)
    assert isinstance(error, UnexpectedAnswerError)
    assert "http://u" in str(error)


@pytest.mark.parametrize("status", [200, 201, 204, 302, 404, 500, 502, 503])
def test_the_page_of_a_proxy_is_one_error(status: int) -> None:
    body = b"" if status == 204 else b"<html>\n\nevent: end\ndata: {}\n\n</html>"
    with (
        answering(status, "text/html", body, Location="/login") as url,
        # A second try would go on for as long as a test waits for anything.
        Client(url, "token", retry_seconds=PATIENCE_SECONDS) as client,
    ):
        for verb in VERBS:
            if status == 204 and verb is VERBS[6]:  # what it says of a deletion
                verb(client)
                continue
            with pytest.raises(UnexpectedAnswerError, match="cannot understand the answer of http"):
                verb(client)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b'{"items": [{}], "next_cursor": null}'])
@pytest.mark.parametrize("status", [200, 201, 202])
def test_the_json_of_another_service_is_one_error(status: int, body: bytes) -> None:
    with (
        answering(status, "application/json", body) as url,
        Client(url, "token", retry_seconds=PATIENCE_SECONDS) as client,
    ):
        for verb in VERBS:
            with pytest.raises(UnexpectedAnswerError):
                verb(client)


@pytest.mark.parametrize(
    "body",
    [
        b"event: output\ndata: {}\n\n",
        b"event: output\ndata: []\n\n",
        b"event: end\ndata: nothing\n\n",
        b"event: status\ndata: {}\n\n",
        b"event: output\ndata: \xff\n\n",
        (
            b'event: output\ndata: {"stream": "stdout", "position": 7, "stream_offset": 7, '
            b'"time": "2026-11-23T16:20:00.000000Z", "text": "x"}\n\n'
        ),
        (
            b'event: output\ndata: {"stream": "stdout", "position": 0, "stream_offset": 0, '
            b'"time": "2026-11-23T16:20:00.000000Z", "base64": "*"}\n\n'
        ),
    ],
)
def test_an_event_stream_that_is_none(body: bytes) -> None:
    with answering(200, "text/event-stream", body) as url:
        with (
            Client(url, "token", retry_seconds=PATIENCE_SECONDS) as client,
            pytest.raises(UnexpectedAnswerError, match="cannot understand the event stream"),
        ):
            list(client.follow(ID))

        async def follow() -> None:
            async with AsyncClient(url, "token", retry_seconds=PATIENCE_SECONDS) as client:
                async for _ in client.follow(ID):
                    pass

        with pytest.raises(UnexpectedAnswerError):
            asyncio.run(follow())


def test_an_event_stream_that_always_closes_is_given_up() -> None:
    with (
        answering(200, "text/event-stream", b"retry: 1000\n\n") as url,
        Client(url, "token", retry_seconds=1) as client,
        pytest.raises(ConnectionLostError),
    ):
        list(client.follow(ID))


def test_the_page_of_a_proxy_awaited() -> None:
    async def use(url: str) -> None:
        async with AsyncClient(url, "token", retry_seconds=PATIENCE_SECONDS) as client:
            for verb in (client.submit, client.get, client.rerun, client.output, client.run):
                with pytest.raises(UnexpectedAnswerError):
                    await verb(ID)
            with pytest.raises(UnexpectedAnswerError):
                async for _ in client.follow(ID):
                    pass

    with answering(200, "text/html", b"<html>") as url:
        asyncio.run(use(url))


def test_a_service_that_asks_for_patience_is_asked_again() -> None:
    body = b'{"type": "/problems/store-unavailable", "detail": "cannot read now"}'
    with (
        answering(503, "application/problem+json", body, Retry_After="1") as url,
        Client(url, "token", retry_seconds=1) as client,
    ):
        began = time.monotonic()
        with pytest.raises(problems.StoreUnavailableError):
            client.hosts()
        assert time.monotonic() - began >= 1


def test_a_wrong_token(service: Service) -> None:
    for token in ("wrong", "ss_" + "x" * 40):
        with Client(service.url, token, retry_seconds=PATIENCE_SECONDS) as client:
            for verb in VERBS:
                with pytest.raises(problems.UnauthenticatedError):
                    verb(client)


@pytest.mark.parametrize("token", ["a b", "a\nb", "é", "\0"])
def test_a_token_that_is_none(token: str) -> None:
    with pytest.raises(ClientError, match="cannot use the token"):
        Client("http://127.0.0.1:1", token)


@pytest.mark.parametrize(
    "url",
    [
        "nonsense", "ftp://x", "http://", "http://:80", "127.0.0.1:8000", "http://x:99999",
        "http://x:y", "http://[::1", "unix:///x", "http://x:0", "\0",
    ],
)  # fmt: skip
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ClientError, match="cannot use"):
        Client(url, "token")
    with pytest.raises(ClientError, match="cannot use"):
        AsyncClient(url, "token")


def test_nobody_there() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    for seconds in (0, 1):
        with Client(f"http://127.0.0.1:{port}", "token", retry_seconds=seconds) as client:
            for verb in (VERBS[0], VERBS[8], VERBS[10]):
                # The best of several counts: the machine may hold any of them up.
                for _ in range(5):
                    began = time.monotonic()
                    with pytest.raises(ConnectionLostError, match=f"cannot reach .*{port}"):
                        verb(client)
                    took = time.monotonic() - began
                    assert took >= seconds
                    if took < seconds + 4:
                        break
                assert took < seconds + 4


def test_a_host_that_there_is_not() -> None:
    with (
        Client("http://no-such-host.invalid", "token", retry_seconds=0) as client,
        pytest.raises(ConnectionLostError),
    ):
        client.hosts()
