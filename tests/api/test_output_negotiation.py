"""Ranges, media types and HEAD of the output route."""

from typing import Any

import pytest

from support.problems import assert_problem
from support.service import MAINLY_ON_SQLITE, PATIENCE_SECONDS, Service

pytestmark = MAINLY_ON_SQLITE

DATA = b"0123456789abcdefghijklmnopqrstuvwxyz"
SIZE = len(DATA)


@pytest.fixture(scope="module")
def command(service: Service) -> dict[str, Any]:
    return service.run(f"printf {DATA.decode()}")


def get(service: Service, command: dict[str, Any], headers: dict[str, str], **query: Any) -> Any:
    url = f"/v1/commands/{command['id']}/output"
    return service.client.get(url, headers=headers, params=query)


# Range


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-9", 0, 9),
        ("bytes=5-", 5, SIZE - 1),
        ("bytes=30-1000", 30, SIZE - 1),
        ("bytes=-1", SIZE - 1, SIZE - 1),
        ("bytes=-10", SIZE - 10, SIZE - 1),
        ("bytes=-1000", 0, SIZE - 1),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE - 1),
        ("Bytes=2-3", 2, 3),
        ("bytes=0-" + "9" * 5000, 0, SIZE - 1),
        ("bytes=-" + "9" * 5000, 0, SIZE - 1),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_range_of_finished_output(
    service: Service, command: dict[str, Any], wanted: str, first: int, last: int
) -> None:
    response = get(service, command, {"Range": wanted})
    assert response.status_code == 206
    assert response.content == DATA[first : last + 1]
    assert response.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
    assert response.headers["content-length"] == str(last - first + 1)
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["output-offset"] == str(first)
    assert response.headers["output-size"] == str(SIZE)


@pytest.mark.parametrize(
    "wanted", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE}", "bytes=1000-2000", "bytes=-0",
               "bytes=" + "9" * 5000 + "-"], ids=lambda value: value[:20]
)  # fmt: skip
def test_a_range_outside_is_not_satisfiable(
    service: Service, command: dict[str, Any], wanted: str
) -> None:
    response = get(service, command, {"Range": wanted})
    assert_problem(response, "range-not-satisfiable")
    assert response.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "ignored",
    ["bytes=", "bytes=-", "bytes=5-2", "bytes=a-b", "lines=0-1", "bytes", "", "bytes=0-1,3-4"],
)
def test_an_invalid_range_is_ignored(
    service: Service, command: dict[str, Any], ignored: str
) -> None:
    response = get(service, command, {"Range": ignored})
    assert (response.status_code, response.content) == (200, DATA)


def test_a_conditional_range_is_ignored(service: Service, command: dict[str, Any]) -> None:
    response = get(service, command, {"Range": "bytes=0-1", "If-Range": '"x"'})
    assert (response.status_code, response.content) == (200, DATA)


def test_a_range_is_relative_to_the_part_that_the_query_selects(
    service: Service, command: dict[str, Any]
) -> None:
    response = get(service, command, {"Range": "bytes=2-3"}, offset=10, limit=10)
    assert (response.status_code, response.content) == (206, b"cd")
    assert response.headers["content-range"] == "bytes 2-3/10"
    assert response.headers["output-offset"] == "12"
    assert get(service, command, {"Range": "bytes=10-"}, tail=10).status_code == 416


def test_any_range_of_empty_output_is_not_satisfiable(service: Service) -> None:
    empty = service.run("true")
    for wanted in ("bytes=0-", "bytes=-5", "bytes=0-0"):
        response = get(service, empty, {"Range": wanted})
        assert_problem(response, "range-not-satisfiable")
        assert response.headers["content-range"] == "bytes */0"


def test_a_range_of_a_running_command_is_ignored(service: Service) -> None:
    running = service.submit(f"printf {DATA.decode()}; sleep 3600")
    service.wait_for_output(running["id"], DATA)
    response = get(service, running, {"Range": "bytes=0-1"})
    assert (response.status_code, response.content) == (200, DATA)
    assert "accept-ranges" not in response.headers
    service.client.post(f"/v1/commands/{running['id']}/stop", json={"grace_seconds": 0})
    service.wait(running["id"])


# Accept


@pytest.mark.parametrize(
    "accept",
    ["text/plain", "text/*", "text/plain;q=0.5, application/octet-stream;q=0.1", "TEXT/PLAIN",
     "text/html, text/plain;q=0.9, */*;q=0.1"],
)  # fmt: skip
def test_text_plain_is_sent_if_accept_prefers_it(
    service: Service, command: dict[str, Any], accept: str
) -> None:
    response = get(service, command, {"Accept": accept})
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.content == DATA


@pytest.mark.parametrize(
    "accept", ["*/*", "", "application/octet-stream", "image/png", "text/html", "text/plain;q=0"]
)
def test_octet_stream_is_sent_otherwise(
    service: Service, command: dict[str, Any], accept: str
) -> None:
    response = get(service, command, {"Accept": accept})
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.content == DATA


def test_bytes_that_are_not_utf_8_are_unchanged_in_text_plain(service: Service) -> None:
    command = service.run(r"printf '\xff\x00\xc3'")
    assert get(service, command, {"Accept": "text/plain"}).content == b"\xff\x00\xc3"


# HEAD


@pytest.mark.parametrize(
    "query", ["", "?offset=5&limit=3", "?tail=2", "?stream=stderr", "?follow=1"]
)
def test_head_has_the_headers_of_get(service: Service, command: dict[str, Any], query: str) -> None:
    url = f"/v1/commands/{command['id']}/output{query}"
    got, head = service.client.get(url), service.client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    for response in (got, head):
        del response.headers["date"]
    assert head.headers == got.headers


@pytest.mark.parametrize("query", ["", "?follow=true", "?follow=true&tail=1l"])
def test_head_of_a_running_command_returns_at_once(service: Service, query: str) -> None:
    running = service.submit("echo begun; sleep 3600")
    service.wait_for_output(running["id"], b"begun")
    url = f"/v1/commands/{running['id']}/output{query}"
    head = service.client.head(url, timeout=PATIENCE_SECONDS)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["output-complete"] == "false"
    assert head.headers["output-size"] == "6"
    # The length of a follow is not known in advance.
    assert head.headers.get("content-length") == (None if "follow" in query else "6")
    service.client.post(f"/v1/commands/{running['id']}/stop", json={"grace_seconds": 0})
    service.wait(running["id"])
