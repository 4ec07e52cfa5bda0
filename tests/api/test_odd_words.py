"""Unusual texts that one or both databases refuse get the same answer on both."""

from urllib.parse import urlencode

import pytest

from support.problems import assert_invalid
from support.service import Service

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite", "postgresql"], scope="module")

HUGE = str((1 << 63) - 1)
BEYOND = str(1 << 64)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("label", "a=\0"),
        ("label", "\0=a"),
        ("host", "\0"),
        ("host", "alpha\0"),
        ("q", "\0"),
        ("cursor", "\0"),
        ("created_after", "\0"),
        ("status", "\0"),
    ],
)
def test_a_nul_in_a_filter_is_refused(service: Service, name: str, text: str) -> None:
    response = service.client.get("/v1/commands", params={name: text})
    field = f"{name}.0" if name in ("label", "status") else name
    assert_invalid(response, field)


@pytest.mark.parametrize("name", ["name", "host", "working_directory", "script", "env", "labels"])
def test_a_nul_in_a_field_is_refused(service: Service, name: str) -> None:
    value: object = {"a": "\0"} if name in ("env", "labels") else "a\0"
    response = service.client.post("/v1/commands", json={"script": "true", name: value})
    assert_invalid(response, f"{name}.a" if isinstance(value, dict) else name)


@pytest.mark.parametrize(
    "query",
    [
        {"label": "=" + "x" * 1000},
        {"label": "\udcff=\U0010ffff"},
        {"label": "'; DROP TABLE commands; --=%"},
        {"host": "x" * 10_000},
        {"host": "\U0010ffff\x7f"},
        {"q": "\x01\ufffe"},
        {"created_after": "0001-01-01T00:00:00Z"},
        {"created_before": "9999-12-31T23:59:59-00:01"},
    ],
)
def test_any_other_text_may_be_in_a_filter(service: Service, query: dict[str, str]) -> None:
    response = service.client.get(f"/v1/commands?{urlencode(query, errors='surrogateescape')}")
    assert response.status_code == 200, response.text
    if "created_before" not in query and "created_after" not in query:
        assert response.json()["items"] == []


@pytest.mark.parametrize("key", [b"\xff\x80", b"\xc3\xa4", b"x" * 255, b"\xe4" * 255, b"'%s"])
def test_an_idempotency_key_may_have_any_header_bytes(service: Service, key: bytes) -> None:
    headers = [(b"Idempotency-Key", key), (b"traceparent", key)]
    first, again = (
        service.client.post("/v1/commands", json={"script": "true"}, headers=headers)
        for _ in range(2)
    )
    assert (first.status_code, again.status_code) == (201, 201), first.text
    assert first.json()["id"] == again.json()["id"]
    service.wait(first.json()["id"])


@pytest.mark.parametrize(
    "path",
    [
        "%00",
        "{id}%00",
        "{id}/output?offset=" + HUGE,
        "{id}/output?follow=true&offset=" + HUGE,
        "{id}/output?limit=" + HUGE + "&offset=" + HUGE,
        "{id}/output?tail=999999999999999999",
        "{id}/output?tail=999999999999999999l",
        "{id}/events?after=" + HUGE,
        "{id}/events?after=" + BEYOND,
        "{id}/output?offset=" + BEYOND,
    ],
)
def test_extreme_numbers_and_ids_cause_no_server_error(service: Service, path: str) -> None:
    command = service.run("echo x")["id"]
    for headers in ({}, {"Range": f"bytes={HUGE}-{BEYOND}"}, {"Last-Event-ID": BEYOND}):
        response = service.client.get(
            f"/v1/commands/{path.replace('{id}', command)}", headers=headers
        )
        assert response.status_code < 500, response.text
