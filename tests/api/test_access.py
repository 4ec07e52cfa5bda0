"""Tokens, paths and methods: what is allowed, and how other requests are refused."""

import os
import stat
import uuid
from collections.abc import Iterator

import httpx2 as httpx
import pytest

from support.problems import assert_invalid, assert_problem
from support.service import MAINLY_ON_SQLITE, PATIENCE_SECONDS, Service

pytestmark = MAINLY_ON_SQLITE
UNKNOWN = "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55"
CLOSED = {
    "/v1/commands": {"GET", "HEAD", "POST"},
    f"/v1/commands/{UNKNOWN}": {"GET", "HEAD", "DELETE"},
    f"/v1/commands/{UNKNOWN}/stop": {"POST"},
    f"/v1/commands/{UNKNOWN}/rerun": {"POST"},
    f"/v1/commands/{UNKNOWN}/output": {"GET", "HEAD"},
    f"/v1/commands/{UNKNOWN}/events": {"GET", "HEAD"},
    f"/v1/commands/{UNKNOWN}/stdin": {"POST"},
    f"/v1/commands/{UNKNOWN}/signal": {"POST"},
    f"/v1/commands/{UNKNOWN}/attach": {"GET", "HEAD"},
    "/v1/hosts": {"GET", "HEAD"},
    "/metrics": {"GET", "HEAD"},
}
OPEN = {path: {"GET", "HEAD"} for path in ("/healthz", "/readyz", "/openapi.json", "/docs")}
PAGE = {
    path: {"GET", "HEAD"}
    for path in ("/", "/new", "/hosts", "/sign-in", "/commands/x", "/assets/x")
}
SESSION = {"/v1/session": {"GET", "HEAD", "POST", "DELETE"}}
ALL = CLOSED | OPEN | PAGE | SESSION
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
UNKNOWN_PATHS = [
    "/v1",
    "/v1/",
    "/v2/commands",
    "/nothing",
    "/v1/commands/x/y",
    "/token",
    "//v1/commands",
    "/assets",
    "/assets/",
    "/commands",
    "/commands/",
    "/commands/x/y",
    "/index.html",
]
OPEN_PREFIXES = ("/assets/", "/commands/")
"""Paths below these need no token, since nothing there is secret."""


@pytest.fixture
def anonymous(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS, verify=False) as client:
        yield client


def wrong_headers(service: Service) -> list[dict[str, str]]:
    return [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {service.token}x"},
        {"Authorization": f"Bearer {service.token[:-1]}"},
        {"Authorization": f"Basic {service.token}"},
        {"Authorization": service.token},
        {"Authorization": "Bearer " + "x" * 10_000},
        {"X-Token": service.token},
        {"Cookie": f"token={service.token}"},
    ]


# Tokens


@pytest.mark.parametrize(
    "path",
    [*CLOSED, *(path for path in UNKNOWN_PATHS if not path.startswith(OPEN_PREFIXES))],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
def test_requests_without_a_token_are_refused(
    anonymous: httpx.Client, method: str, path: str
) -> None:
    response = anonymous.request(method, path)
    problem = assert_problem(response, "unauthenticated")
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert "Authorization: Bearer" in problem["detail"]


def test_a_wrong_token_is_refused(service: Service, anonymous: httpx.Client) -> None:
    for headers in wrong_headers(service):
        for path in ("/v1/commands", f"/v1/commands/{UNKNOWN}", "/v1/nothing"):
            assert_problem(anonymous.get(path, headers=headers), "unauthenticated")


def test_two_authorization_headers_are_refused(service: Service, anonymous: httpx.Client) -> None:
    headers = [("Authorization", f"Bearer {service.token}")] * 2
    assert_problem(anonymous.get("/v1/commands", headers=headers), "unauthenticated")


def test_a_token_in_the_query_is_ignored(service: Service, anonymous: httpx.Client) -> None:
    response = anonymous.get("/v1/commands", params={"token": service.token})
    assert_problem(response, "unauthenticated")


def test_the_scheme_may_be_in_any_case(service: Service, anonymous: httpx.Client) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {service.token}"}
        assert anonymous.get("/v1/commands", headers=headers).status_code == 200


def test_without_a_token_nothing_is_submitted(service: Service, anonymous: httpx.Client) -> None:
    name = str(uuid.uuid4())
    response = anonymous.post("/v1/commands", json={"script": "true", "name": name})
    assert_problem(response, "unauthenticated")
    assert service.client.get("/v1/commands", params={"q": name}).json()["items"] == []


@pytest.mark.parametrize("path", OPEN)
def test_open_paths_are_open(anonymous: httpx.Client, path: str) -> None:
    assert anonymous.get(path).status_code == 200
    assert anonymous.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 200


def test_the_token_is_printed_once_and_kept_for_its_owner(service: Service) -> None:
    assert service.output().count(service.token) == 1
    assert f"http://127.0.0.1:{service.port}" in service.output()
    assert service.token.startswith("ss_")
    mode = os.stat(service.data_dir / "token").st_mode
    assert stat.S_IMODE(mode) == 0o600


# Paths and methods


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize("method", METHODS)
def test_other_methods_are_refused_and_the_allowed_ones_named(
    service: Service, path: str, method: str
) -> None:
    allowed = ALL[path]
    response = service.client.request(method, path)
    if method in allowed:
        assert response.status_code != 405
        return
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == allowed
    if method == "HEAD":
        assert response.content == b""
    else:
        assert_problem(response, "method-not-allowed")


@pytest.mark.parametrize("path", UNKNOWN_PATHS)
def test_unknown_paths_are_not_found(service: Service, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert_problem(service.client.request(method, service.url + path), "not-found")


@pytest.mark.parametrize("path", [path for path in ALL if path != "/"])
def test_a_slash_at_the_end_is_another_path(service: Service, path: str) -> None:
    response = service.client.get(f"{path}/", follow_redirects=False)
    assert_problem(response, "not-found")


@pytest.mark.parametrize(
    "name",
    ["x", UNKNOWN[:-1], UNKNOWN + "0", UNKNOWN.replace("-", ""), f"{{{UNKNOWN}}}",
     f"urn:uuid:{UNKNOWN}", UNKNOWN.replace("0", "g", 1), f"{UNKNOWN}%0A", f"%20{UNKNOWN}", "%00",
     "..%2F..%2Fetc", "a" * 5000, "%FF"],
    ids=lambda name: name[:20],
)  # fmt: skip
def test_an_invalid_id_is_not_found(service: Service, name: str) -> None:
    for method, path in (
        ("GET", ""), ("DELETE", ""), ("POST", "/stop"), ("POST", "/rerun"), ("GET", "/output"),
    ):  # fmt: skip
        response = service.client.request(method, f"/v1/commands/{name}{path}")
        assert response.status_code == 404, response.text
        assert response.json()["type"] == "/problems/not-found"
        assert len(response.text) < 11_000


def test_an_unknown_id_is_not_found(service: Service) -> None:
    problem = assert_problem(service.client.get(f"/v1/commands/{UNKNOWN}"), "not-found")
    assert UNKNOWN in problem["detail"]


def test_an_id_may_be_in_any_case(service: Service) -> None:
    command = service.run("true")
    response = service.client.get(f"/v1/commands/{command['id'].upper()}")
    assert response.json() == command


@pytest.mark.parametrize("path", ["/v1/hosts", *OPEN])
def test_unknown_parameters_are_refused_everywhere(service: Service, path: str) -> None:
    assert_invalid(service.client.get(path, params={"colour": "red"}), "colour")


@pytest.mark.parametrize("parameter", ["after", "fields"])
def test_one_command_takes_no_other_parameter(service: Service, parameter: str) -> None:
    command = service.run("true")
    response = service.client.get(f"/v1/commands/{command['id']}", params={parameter: "1"})
    assert_invalid(response, parameter)


# HEAD


@pytest.mark.parametrize(
    "path", ["/v1/commands", "/v1/commands/{id}", "/v1/hosts", "/", "/new", *OPEN]
)
def test_head_is_get_without_the_body(service: Service, path: str) -> None:
    path = path.format(id=service.run("true")["id"])
    got, head = service.client.get(path), service.client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers["content-length"] == str(len(got.content))


def test_head_of_an_unknown_path_is_not_found(service: Service) -> None:
    for path in (f"/v1/commands/{UNKNOWN}", "/nothing"):
        head = service.client.head(path)
        assert (head.status_code, head.content) == (404, b"")
        assert head.headers["content-type"] == "application/problem+json"
