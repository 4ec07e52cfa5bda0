"""Submitting the script as the body, with the other fields as query parameters."""

import contextlib
import http.client
import json
from typing import Any

import httpx2 as httpx
import pytest

from support.problems import assert_invalid, assert_problem
from support.service import MAINLY_ON_SQLITE, PATIENCE_SECONDS, Service

pytestmark = MAINLY_ON_SQLITE

MEBIBYTE = 1 << 20
TEXT = {"Content-Type": "text/plain"}


def submit(service: Service, body: bytes, query: Any = None, **headers: str) -> httpx.Response:
    return service.client.post(
        "/v1/commands", content=body, params=query, headers={**TEXT, **headers}
    )


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "text/x-shellscript", "TEXT/Plain; charset=UTF-8", 'text/plain;charset="utf-8"'],
)
def test_the_body_is_the_script(service: Service, content_type: str) -> None:
    script = "echo 'ä' \"$0\" >/dev/null\necho end"
    response = submit(service, script.encode(), **{"Content-Type": content_type})
    assert response.status_code == 201
    command = response.json()
    assert command["script"] == script
    assert response.headers["location"] == f"/v1/commands/{command['id']}"
    assert service.wait(command["id"])["status"] == "succeeded"
    assert service.bytes_of(command["id"]) == b"end\n"


def test_every_field_is_a_parameter(service: Service) -> None:
    host = service.client.get("/v1/hosts").json()["items"][0]["name"]
    query = [
        ("name", "a name"), ("label", "team=db"), ("label", "url=a=b=c"), ("label", "empty="),
        ("interpreter", "/bin/bash"), ("interpreter", "-u"),
        ("arg", "one"), ("arg", ""), ("arg", "a=b"), ("env", "A=1"), ("env", "B=x=y"),
        ("working_directory", "/tmp"), ("stdin", "input"),
        ("timeout_seconds", "100"), ("queue_timeout_seconds", "99.5"), ("grace_seconds", "1.5"),
        ("leftover_seconds", "0"), ("output_limit_bytes", "1000"), ("on_output_limit", "stop"),
        ("limits", '{"cpu_seconds": 1.5, "nice": 1}'), ("priority", "-7"), ("host", host),
    ]  # fmt: skip
    response = submit(service, b'echo "$A $B $PWD" "$@"; cat', query)
    assert response.status_code == 201, response.text
    command = response.json()
    wanted = {
        "name": "a name",
        "labels": {"team": "db", "url": "a=b=c", "empty": ""},
        "interpreter": ["/bin/bash", "-u"],
        "args": ["one", "", "a=b"],
        "env": {"A": "1", "B": "x=y"},
        "working_directory": "/tmp",
        "stdin_bytes": 5,
        "timeout_seconds": 100,
        "queue_timeout_seconds": 99.5,
        "grace_seconds": 1.5,
        "leftover_seconds": 0,
        "output_limit_bytes": 1000,
        "on_output_limit": "stop",
        "limits": {"cpu_seconds": 1.5, "nice": 1},
        "priority": -7,
        "host": host,
    }
    assert {name: command[name] for name in wanted} == wanted
    assert service.wait(command["id"])["status"] == "succeeded"
    assert service.bytes_of(command["id"]) == b"1 x=y /tmp one  a=b\ninput"


def test_without_parameters_the_defaults_are_those_of_json(service: Service) -> None:
    raw = submit(service, b"true").json()
    written = service.submit("true")
    for name in ("id", "created_at"):
        del raw[name], written[name]
    assert raw == written


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ([("label", "team")], "label"),
        ([("label", "=x")], "labels"),
        ([("label", "a b=x")], "labels"),
        ([("env", "A")], "env"),
        ([("env", "1A=x")], "env"),
        ([("env", "SCRIPTSERVICE_X=1")], "env"),
        ([("name", "a"), ("name", "b")], "name"),
        ([("timeout_seconds", "1"), ("timeout_seconds", "1")], "timeout_seconds"),
        ([("timeout_seconds", "soon")], "timeout_seconds"),
        ([("timeout_seconds", "nan")], "timeout_seconds"),
        ([("timeout_seconds", "inf")], "timeout_seconds"),
        ([("timeout_seconds", "")], "timeout_seconds"),
        ([("timeout_seconds", "0")], "timeout_seconds"),
        ([("grace_seconds", "-1")], "grace_seconds"),
        ([("priority", "1.5")], "priority"),
        ([("priority", "9" * 5000)], "priority"),
        ([("output_limit_bytes", "1k")], "output_limit_bytes"),
        ([("output_limit_bytes", "")], "output_limit_bytes"),
        ([("output_limit_bytes", "None")], "output_limit_bytes"),
        ([("on_output_limit", "")], "on_output_limit"),
        ([("limits", "")], "limits"),
        ([("limits", "{")], "limits"),
        ([("limits", "[" * 10_000)], "limits"),
        ([("limits", "7")], "limits"),
        ([("limits", '{"nice": 20}')], "limits"),
        ([("limits", "{}"), ("limits", "{}")], "limits"),
        ([("host", "no-such-host")], "host"),
        ([("script", "echo")], "script"),
        ([("labels", "a=b")], "labels"),
        ([("args", "a")], "args"),
        ([("interactive", "maybe")], "interactive"),
        ([("pty", "1")], "pty"),
        ([("pty", "24x0")], "pty.cols"),
        ([("wait", "61")], "wait"),
        ([("colour", "red")], "colour"),
        ([("stdin_bytes", "1")], "stdin_bytes"),
    ],
    ids=str,
)
def test_an_invalid_parameter_is_refused_by_name(
    service: Service, query: list[tuple[str, str]], field: str
) -> None:
    assert_invalid(submit(service, b"true", query), field)


@pytest.mark.parametrize(
    "body", [b"", b"echo \0", b"echo \xff", b"\xed\xa0\x80", b"echo \xc3"], ids=str
)
def test_a_body_that_is_not_a_valid_script_is_refused(service: Service, body: bytes) -> None:
    assert_invalid(submit(service, body), "script")


def test_exactly_one_mebibyte_is_accepted(service: Service) -> None:
    response = submit(service, b"#" * (MEBIBYTE - 1) + b"\n")
    assert response.status_code == 201
    assert service.wait(response.json()["id"])["status"] == "succeeded"


@pytest.mark.parametrize("size", [MEBIBYTE + 1, 20 * MEBIBYTE])
def test_more_than_one_mebibyte_is_too_large(service: Service, size: int) -> None:
    assert_problem(submit(service, b"#" * size), "too-large")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_first_and_reads_later_gets_the_refusal(
    service: Service, chunked: bool
) -> None:
    """`http.client`, like many clients, reads no answer before it has sent everything."""
    body = b"#" * (20 * MEBIBYTE)
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_SECONDS)
    with contextlib.closing(connection):
        connection.request(
            "POST",
            "/v1/commands",
            body=iter([body]) if chunked else body,
            headers={**TEXT, **service.headers},
            encode_chunked=chunked,
        )
        response = connection.getresponse()
        assert response.status == 413
        assert json.load(response)["type"] == "/problems/too-large"
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b'{"status":"ok"}'


def test_a_chunked_body_is_accepted(service: Service) -> None:
    response = service.client.post(
        "/v1/commands", content=iter([b"echo ", b"chunk", b"ed"]), headers=TEXT
    )
    assert response.status_code == 201
    assert response.json()["script"] == "echo chunked"


def test_a_chunked_body_that_is_too_large_is_refused(service: Service) -> None:
    parts = (b"#" * 65536 for _ in range(17))
    response = service.client.post("/v1/commands", content=parts, headers=TEXT)
    assert_problem(response, "too-large")


def test_a_label_that_is_given_twice_is_refused(service: Service) -> None:
    response = service.client.post(
        "/v1/commands",
        content=b"echo",
        headers={"Content-Type": "text/plain"},
        params=[("label", "a=1"), ("label", "a=2")],
    )
    assert_invalid(response, "label")
