"""Which ``Host`` and ``Origin`` headers are accepted, and the security headers of all answers."""

import socket
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

import pytest

from scriptservice.server.http import response_headers
from scriptservice.server.page.page_files import PageFiles, package_directory
from support.service import ON_SQLITE, PATIENCE_SECONDS, Service, eventually

pytestmark = ON_SQLITE  # the checks come before any use of the database

OPEN = ("/", "/healthz", "/readyz", "/docs", "/openapi.json", "/v1/session", "/assets/x")
CLOSED = ("/v1/commands", "/metrics", "/nothing")
API_POLICY = "default-src 'none'; frame-ancestors 'none'"
FIXED = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    text: str

    def all(self, name: str) -> list[str]:
        return [value for found, value in self.headers if found == name]


def ask(service: Service, *headers: str, method: str = "GET", target: str = "/healthz") -> Answer:
    """Send a request exactly as given; return the whole answer."""
    head = [f"{method} {target} HTTP/1.1", *headers, "Connection: close", "", ""]
    with closing(
        socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_SECONDS)
    ) as connection:
        connection.sendall("\r\n".join(head).encode("latin-1"))
        received = b""
        while part := connection.recv(65536):
            received += part
    top, _, body = received.decode().partition("\r\n\r\n")
    first, *lines = top.split("\r\n")
    found = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
    return Answer(int(first.split()[1]), found, body)


def assert_refused(answer: Answer, status: int, kind: str) -> None:
    assert answer.status == status, answer
    assert f'"/problems/{kind}"' in answer.text
    assert_safe(answer)


def assert_safe(answer: Answer, policy: str = API_POLICY) -> None:
    """Assert that an answer has each of the security headers once."""
    for name, value in FIXED.items():
        assert answer.all(name) == [value], answer
    assert answer.all("content-security-policy") == [policy], answer
    assert not [name for name, _ in answer.headers if name.startswith("access-control-")]


# Host


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:{port}", "LocalHost:{port}", "localhost.", "localhost.:{port}",
     "127.0.0.1", "127.0.0.1:{port}", "127.9.9.9", "10.0.0.5:80", "[::1]", "[::1]:{port}",
     "[::FFFF:127.0.0.1]", "[2001:db8::7]:1", "jobs.localhost:{port}", "localhost:", "localhost\t"],
)  # fmt: skip
def test_own_host_names_and_addresses_are_answered(service: Service, host: str) -> None:
    host = host.format(port=service.port)
    for path in OPEN[:5]:
        assert ask(service, f"Host: {host}", target=path).status == 200, path
    token = f"Authorization: Bearer {service.token}"
    assert ask(service, f"Host: {host}", token, target="/v1/commands").status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "localhost.evil.example", "notlocalhost",
     "127.0.0.1.evil.example", "127.0.0.1.nip.io:{port}", "2130706433", "0x7f.1", "127.1",
     "127.0.0.01", "x", "localhost..", "_", "*"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "DELETE", "FOO"])
def test_other_host_names_are_refused_for_every_request(
    service: Service, host: str, method: str
) -> None:
    host = host.format(port=service.port)
    token = f"Authorization: Bearer {service.token}"
    for path in (*OPEN, *CLOSED):
        answer = ask(service, f"Host: {host}", token, method=method, target=path)
        if method == "FOO" or host == "*":
            assert answer.status == 400
        else:
            assert answer.status == 421, (path, answer)
            assert_safe(answer)
            if method != "HEAD":
                assert '"/problems/host-not-allowed"' in answer.text
                assert "--allowed-host" in answer.text


@pytest.mark.parametrize(
    "lines",
    [[], ["Host: "], ["Host: localhost", "Host: localhost"], ["Host: localhost", "host: x"],
     ["Host: localhost, evil.example"], ["Host: user@localhost"], ["Host: localhost@evil.example"],
     ["Host: http://localhost"], ["Host: localhost/x"], ["Host: [::1"], ["Host: ::1"],
     ["Host: [::1%25eth0]"], ["Host: [127.0.0.1]"], ["Host: localhost:port"],
     ["Host: localhost:1:2"], ["Host: localhost:999999"], ["Host: ."], ["Host: l\xf6calhost"],
     ["Host: " + "a" * 300]],
    ids=str,
)  # fmt: skip
def test_an_invalid_host_header_is_refused(service: Service, lines: list[str]) -> None:
    for path in ("/healthz", "/", "/v1/commands"):
        answer = ask(service, *lines, target=path)
        assert_refused(answer, 400, "bad-request")


def test_the_host_header_decides_not_the_request_target(service: Service) -> None:
    good, evil = "Host: localhost", "Host: evil.example"
    assert ask(service, good, target="http://evil.example/healthz").status == 200
    assert_refused(ask(service, evil, target="http://localhost/healthz"), 421, "host-not-allowed")
    for odd in ("*", "http://evil.example", "evil.example:80"):
        assert ask(service, good, method="OPTIONS", target=odd).status in (400, 401, 404)
    for header in ("X-Forwarded-Host: localhost", "Forwarded: host=localhost"):
        assert ask(service, evil, header).status == 421


def test_host_names_can_be_allowed(make_service: Callable[..., Service]) -> None:
    service = make_service("--allowed-host", "Jobs.Example.com", "--allowed-host", "box").start()
    for host in ("jobs.example.com", "JOBS.example.com.:443", "box:1", "localhost"):
        assert ask(service, f"Host: {host}").status == 200
    for host in ("example.com", "x.jobs.example.com", "jobs.example.com.evil.example", "boxes"):
        assert ask(service, f"Host: {host}").status == 421
    # An allowed host name is not an allowed origin for requests to another one.
    assert ask(service, "Host: box", "Origin: http://box").status == 200
    assert ask(service, "Host: box", "Origin: http://jobs.example.com").status == 403


def test_every_host_name_can_be_allowed(make_service: Callable[..., Service]) -> None:
    service = make_service(environment={"SCRIPTSERVICE_ALLOWED_HOST": "a.example, *"}).start()
    assert ask(service, "Host: whatever.example").status == 200
    assert ask(service, "Host: user@whatever.example").status == 400
    assert ask(service, "Host: x.example", "Origin: http://y.example").status == 403


def test_the_host_name_that_it_listens_on_is_allowed(make_service: Callable[..., Service]) -> None:
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        address = ""
    host = name if address.startswith("127.") else "localhost"
    service = make_service("--host", host).start()
    assert ask(service, f"Host: {host}:{service.port}").status == 200


# Origin


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:{port}", "http://localhost:{port}"),
        ("localhost:{port}", "https://localhost:{port}"),
        ("LOCALHOST:{port}", "http://localhost:{port}"),
        ("localhost.:{port}", "http://localhost.:{port}"),
        ("[::1]:{port}", "http://[::1]:{port}"),
        ("10.0.0.5", "http://10.0.0.5"),
        ("10.0.0.5:80", "http://10.0.0.5"),
        ("10.0.0.5", "https://10.0.0.5"),
        ("10.0.0.5:443", "https://10.0.0.5"),
    ],
)
def test_requests_from_the_services_own_page_are_answered(
    service: Service, host: str, origin: str
) -> None:
    lines = [f"{name}: {value.format(port=service.port)}"
             for name, value in (("Host", host), ("Origin", origin))]  # fmt: skip
    token = f"Authorization: Bearer {service.token}"
    assert ask(service, *lines).status == 200
    assert ask(service, *lines, token, target="/v1/commands").status == 200
    # 415 is an answer of the route, so the check has passed.
    assert ask(service, *lines, token, method="POST", target="/v1/commands").status == 415


@pytest.mark.parametrize(
    "origins",
    [["null"], [""], ["http://evil.example"], ["http://localhost"], ["http://localhost:1"],
     ["http://127.0.0.1:{port}"], ["http://localhost:{port}/"], ["http://localhost:{port}.evil"],
     ["http://evil@localhost:{port}"], ["ftp://localhost:{port}"], ["localhost:{port}"],
     ["file://"], ["chrome-extension://abcdef"], ["http://x.localhost:{port}"],
     ["http://localhost:{port} http://localhost:{port}"], ["http://localhost:0{port}0"],
     ["http://localhost:{port}", "http://localhost:{port}"],
     ["http://localhost:{port}", "http://evil.example"], ["http://localhost:{port}, x"]],
    ids=str,
)  # fmt: skip
def test_requests_from_other_origins_are_refused(service: Service, origins: list[str]) -> None:
    lines = [f"Origin: {origin.format(port=service.port)}" for origin in origins]
    host = f"Host: localhost:{service.port}"
    token = f"Authorization: Bearer {service.token}"
    for method in ("GET", "POST", "OPTIONS", "DELETE"):
        for path in (*OPEN, *CLOSED):
            answer = ask(service, host, token, *lines, method=method, target=path)
            assert_refused(answer, 403, "forbidden")


def test_cross_site_requests_change_nothing(service: Service) -> None:
    host = f"Host: localhost:{service.port}"
    token = f"Authorization: Bearer {service.token}"
    paths = ("/v1/commands", "/v1/session", "/nothing")
    for site in ("cross-site", "same-site", "anything", ""):
        for method in ("POST", "DELETE", "PUT"):
            for path in paths:
                answer = ask(
                    service, host, token, f"Sec-Fetch-Site: {site}", method=method, target=path
                )
                assert_refused(answer, 403, "forbidden")
        # A link from another site may lead to the page.
        assert ask(service, host, f"Sec-Fetch-Site: {site}", target="/").status == 200
    two = ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-origin"]
    for lines in (two, two[::-1]):
        assert ask(service, host, token, *lines, method="POST", target=paths[0]).status == 403
    for site in ("same-origin", "none"):
        line = f"Sec-Fetch-Site: {site}"
        assert ask(service, host, token, line, method="POST", target=paths[0]).status == 415


# Headers


def test_every_answer_has_the_security_headers(service: Service) -> None:
    command = service.run("echo hello")["id"]
    host, token = "Host: localhost", f"Authorization: Bearer {service.token}"
    lines: dict[tuple[str, str], int] = {
        ("GET", "/healthz"): 200,
        ("HEAD", "/healthz"): 200,
        ("GET", "/readyz"): 200,
        ("GET", "/openapi.json"): 200,
        ("GET", "/metrics"): 200,
        ("GET", "/v1/hosts"): 200,
        ("GET", "/v1/commands"): 200,
        ("GET", f"/v1/commands/{command}"): 200,
        ("GET", f"/v1/commands/{command}/output"): 200,
        ("GET", f"/v1/commands/{command}/output?follow=true"): 200,
        ("GET", f"/v1/commands/{command}/events"): 200,
        ("HEAD", f"/v1/commands/{command}/events"): 200,
        ("GET", "/v1/session"): 401,
        ("GET", "/nothing"): 404,
        ("GET", "/assets/nothing.js"): 404,
        ("PUT", "/v1/commands"): 405,
        ("POST", "/v1/commands"): 415,
        ("GET", "/v1/commands?colour=red"): 422,
        ("POST", f"/v1/commands/{command}/stop"): 409,
        ("DELETE", f"/v1/commands/{command}"): 204,
    }
    for (method, target), status in lines.items():
        answer = ask(service, host, token, method=method, target=target)
        assert answer.status == status, (method, target, answer)
        assert_safe(answer)
    assert_safe(ask(service, host, target="/v1/commands"))  # 401


def test_answers_of_the_http_server_itself_have_the_security_headers(service: Service) -> None:
    answer = ask(service, "Host: localhost", method="NO SUCH", target="/")
    assert answer.status == 400
    for name, value in FIXED.items():
        assert answer.all(name) == [value]


def test_the_docs_have_a_policy_without_scripts_of_others(service: Service) -> None:
    answer = ask(service, "Host: localhost", target="/docs")
    is_built = PageFiles(package_directory()).docs.is_built
    assert_safe(answer, response_headers.PAGE if is_built else API_POLICY)


def test_the_origin_check_works_while_the_database_is_away(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(database="postgresql://nobody@127.0.0.1:1/nothing").start(wait=False)

    def answers() -> bool:
        try:
            return ask(service, "Host: localhost").status == 200
        except OSError:
            return False

    eventually(answers, "it to be up")
    waiting = ask(service, "Host: localhost", target="/v1/commands")
    assert waiting.status == 503
    assert_safe(waiting)
    assert_refused(ask(service, "Host: evil.example"), 421, "host-not-allowed")
    assert_refused(ask(service, "Host: localhost", "Origin: http://evil.example"), 403, "forbidden")
