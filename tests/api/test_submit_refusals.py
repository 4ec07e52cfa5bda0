"""Submits that are refused: the answers, and that nothing is stored."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.problems import assert_invalid, assert_problem
from support.service import MAINLY_ON_SQLITE, Service

pytestmark = MAINLY_ON_SQLITE

MEBIBYTE = 1 << 20
INFINITE = float("inf")

REFUSED: list[tuple[str, Any]] = [
    ("script", None), ("script", ""), ("script", 1), ("script", ["echo"]), ("script", True),
    ("script", "echo \0"), ("script", "#" * (MEBIBYTE + 1)),
    ("name", "n" * 201), ("name", 5), ("name", "a\0b"), ("name", []),
    ("labels", {"": "x"}), ("labels", {"-a": "x"}), ("labels", {"a b": "x"}),
    ("labels", {"k" * 64: "x"}), ("labels", {"ä": "x"}), ("labels", {"a\n": "x"}),
    ("labels", {"a": "v" * 256}), ("labels", {"a": 1}), ("labels", {"a": None}),
    ("labels", {"a": "\0"}), ("labels", ["a=b"]), ("labels", "a=b"), ("labels", None),
    ("labels", {f"k{number}": "" for number in range(65)}),
    ("interpreter", []), ("interpreter", [""]), ("interpreter", "/bin/sh"), ("interpreter", [1]),
    ("interpreter", ["/bin/sh", "\0"]), ("interpreter", ["x" * (128 << 10)]),
    ("args", "a"), ("args", [1]), ("args", ["\0"]), ("args", [None]), ("args", None),
    ("args", ["x" * (128 << 10)]), ("args", {"a": "b"}),
    ("args", ["ä" * 60_000] * 9), ("env", {f"K{number}": "ä" * 60_000 for number in range(9)}),
    ("env", {"1A": "x"}), ("env", {"": "x"}), ("env", {"A-B": "x"}), ("env", {"A=B": "x"}),
    ("env", {"A\n": "x"}), ("env", {"Ä": "x"}), ("env", {"A": 1}), ("env", {"A": None}),
    ("env", {"A": "\0"}), ("env", ["A=B"]), ("env", None), ("env", {"A": "x" * (128 << 10)}),
    ("env", {"SCRIPTSERVICE_COMMAND_ID": "x"}), ("env", {"SCRIPTSERVICE_": "x"}),
    ("working_directory", ""), ("working_directory", 1), ("working_directory", "/\0"),
    ("stdin", 1), ("stdin", []), ("stdin", "x" * (MEBIBYTE + 1)), ("stdin", "ä" * MEBIBYTE),
    ("timeout_seconds", 0), ("timeout_seconds", -1), ("timeout_seconds", "5"),
    ("timeout_seconds", True), ("timeout_seconds", []), ("timeout_seconds", INFINITE),
    ("queue_timeout_seconds", 0), ("queue_timeout_seconds", -0.1), ("queue_timeout_seconds", "5"),
    ("queue_timeout_seconds", False), ("queue_timeout_seconds", INFINITE),
    ("grace_seconds", -1), ("grace_seconds", 3600.1), ("grace_seconds", "5"),
    ("grace_seconds", True), ("grace_seconds", None),
    ("leftover_seconds", -1), ("leftover_seconds", 3601), ("leftover_seconds", "5"),
    ("leftover_seconds", None), ("leftover_seconds", True),
    ("output_limit_bytes", -1), ("output_limit_bytes", 1.5), ("output_limit_bytes", "5"),
    ("output_limit_bytes", True), ("output_limit_bytes", 1 << 63), ("output_limit_bytes", 1 << 90),
    ("on_output_limit", "ignore"), ("on_output_limit", None), ("on_output_limit", 1),
    ("limits", []), ("limits", "{}"), ("limits", 1), ("limits", True),
    ("limits", {"colour": 1}), ("limits", {"cpu_seconds": 0}), ("limits", {"cpu_seconds": -1}),
    ("limits", {"cpu_seconds": "5"}), ("limits", {"cpu_seconds": True}),
    ("limits", {"cpu_seconds": 1e10}), ("limits", {"cpu_seconds": INFINITE}),
    ("limits", {"open_files": 0}), ("limits", {"open_files": 63}), ("limits", {"open_files": 1e3}),
    ("limits", {"open_files": 1 << 31}), ("limits", {"nice": -1}), ("limits", {"nice": 20}),
    ("limits", {"nice": 1.5}), ("limits", {"nice": True}), ("limits", {"memory_bytes": 0}),
    ("limits", {"memory_bytes": (4 << 20) - 1}), ("limits", {"memory_bytes": 1 << 63}),
    ("limits", {"memory_bytes": "1G"}), ("limits", {"processes": 0}), ("limits", {"processes": -1}),
    ("limits", {"processes": 1 << 23}), ("limits", {"nice": [1]}),
    ("limits", {"memory_bytes": 1 << 90}), ("limits", {"cpu_seconds": 10**400}),
    ("priority", -101), ("priority", 101), ("priority", 0.5), ("priority", "1"),
    ("priority", True), ("priority", None),
    ("host", "no-such-host"), ("host", ""), ("host", 1),
]  # fmt: skip

OUR_WORDS = (
    "must ",
    "is ",
    "The ",
    "key ",
    "name ",
    "args and env ",
    "there is no host ",
    "K0 ",
    "A ",
)
"""How the messages of the service begin; those of the validating library begin otherwise."""


@pytest.fixture(scope="module")
def service(own_service: Service) -> Service:
    """A service that must have no command at the end."""
    return own_service


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_stored(service: Service) -> Iterator[None]:
    yield
    assert service.client.get("/v1/commands").json() == {"items": [], "next_cursor": None}


def submit(service: Service, **body: Any) -> Any:
    return service.client.post(
        "/v1/commands",
        content=json.dumps(body),
        headers={"Content-Type": "application/json"},
    )


@pytest.mark.parametrize(
    ("field", "value"), REFUSED, ids=lambda value: json.dumps(value)[:30].encode().hex()[:40]
)
def test_an_invalid_value_is_refused_by_name(service: Service, field: str, value: Any) -> None:
    response = submit(service, **{"script": "echo", field: value})
    if value == INFINITE:
        # JSON has no infinity: the body is malformed or the value is refused.
        assert response.status_code in (400, 422)
        return
    problem = assert_invalid(response, field)
    assert len(response.content) < 4000, problem
    for error in problem["errors"]:
        assert error["message"].startswith(OUR_WORDS), error


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"script": ""}, "script", "The script is empty"),
        ({}, "script", "The script is missing"),
        ({"script": "x", "name": "n" * 201}, "name", "must have at most 200 characters"),
        ({"script": "x", "interpreter": []}, "interpreter", "must not be empty"),
        ({"script": "x", "priority": 101}, "priority", "must be at most 100"),
        ({"script": "x", "timeout_seconds": 0}, "timeout_seconds", "must be more than 0"),
        ({"script": "x", "timeout_seconds": "5"}, "timeout_seconds", "must be a number"),
        ({"script": "x", "args": "a"}, "args", "must be a list"),
        ({"script": "x", "args": [1]}, "args.0", "must be text"),
        ({"script": "x", "colour": 1}, "colour", "is not a known field"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(
    service: Service, body: dict[str, Any], field: str, message: str
) -> None:
    problem = assert_problem(submit(service, **body), "validation")
    assert problem["title"] == "The request is invalid"
    assert problem["errors"] == [{"field": field, "message": message}]
    text = message if message.startswith("The ") else f"{field}: {message}"
    assert problem["detail"] == text


@pytest.mark.parametrize(
    "field",
    ["secrets", "profile", "pool", "host_labels", "on_finish",
     "wait", "id", "status", "stdin_bytes", "timeout", "Script"],
)  # fmt: skip
def test_an_unknown_field_is_refused_by_name(service: Service, field: str) -> None:
    response = submit(service, script="echo", **{field: None})
    problem = assert_problem(response, "validation")
    assert [error["field"] for error in problem["errors"]] == [field]


def test_a_missing_script_is_refused(service: Service) -> None:
    assert_invalid(submit(service), "script")


def test_all_wrong_fields_are_named_in_one_answer(service: Service) -> None:
    problem = assert_invalid(submit(service, script="", priority=500, colour="red"), "script")
    assert {error["field"] for error in problem["errors"]} == {"script", "priority", "colour"}


@pytest.mark.parametrize("body", [b"null", b"[]", b'"echo"', b"5", b"[{}]"])
def test_json_that_is_not_an_object_is_refused(service: Service, body: bytes) -> None:
    response = service.client.post(
        "/v1/commands", content=body, headers={"Content-Type": "application/json"}
    )
    assert_problem(response, "validation")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'script': 'echo'}",
        b'{"script": "echo"} x',
        b'{"script": "\xff"}',
        b'{"script": "\\ud800"}',
        b'{"script": "echo",}',
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"script":' * 20_000,
    ],
    ids=range(10),
)
def test_malformed_json_is_a_bad_request(service: Service, body: bytes) -> None:
    response = service.client.post(
        "/v1/commands", content=body, headers={"Content-Type": "application/json"}
    )
    assert_problem(response, "bad-request")


@pytest.mark.parametrize(
    "content_type",
    [None, "", "application/x-www-form-urlencoded", "text/html", "application/octet-stream",
     "application/json5", "text/plain; charset=latin-1", "multipart/form-data; boundary=x"],
)  # fmt: skip
def test_another_content_type_is_refused_with_a_working_example(
    service: Service, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = service.client.post("/v1/commands", content=b"echo", headers=headers)
    problem = assert_problem(response, "unsupported-media-type")
    assert "curl -H 'Content-Type: text/plain' --data-binary @job.sh" in problem["detail"]


@pytest.mark.parametrize("parameter", ["name", "after", "label", "x"])
def test_json_takes_no_query(service: Service, parameter: str) -> None:
    response = service.client.post("/v1/commands", json={"script": "echo"}, params={parameter: "1"})
    assert_invalid(response, parameter)


def test_too_much_json_is_too_large(service: Service) -> None:
    response = service.client.post(
        "/v1/commands",
        content=b'{"script": "' + b"x" * (33 << 20) + b'"}',
        headers={"Content-Type": "application/json"},
    )
    assert_problem(response, "too-large")
