"""Assertions that hold for every error answer, whatever the route."""

from typing import Any

import httpx2 as httpx

STATUSES = {
    "bad-request": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "already-finished": 409,
    "not-finished": 409,
    "not-interactive": 409,
    "not-running": 409,
    "offset-mismatch": 409,
    "gone": 410,
    "too-large": 413,
    "unsupported-media-type": 415,
    "range-not-satisfiable": 416,
    "host-not-allowed": 421,
    "validation": 422,
    "idempotency-mismatch": 422,
    "too-many-requests": 429,
    "headers-too-large": 431,
    "storage-full": 507,
}


def assert_problem(response: httpx.Response, kind: str) -> dict[str, Any]:
    """Assert that an answer is a problem of the given type; return the problem."""
    assert response.headers.get("content-type") == "application/problem+json", response.text
    problem: dict[str, Any] = response.json()
    assert problem["type"] == f"/problems/{kind}", problem
    assert problem["status"] == response.status_code == STATUSES[kind]
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"] == response.request.url.path
    assert ("errors" in problem) == (kind == "validation")
    for secret in ("Traceback", "sqlite", "SELECT", "site-packages", "/data/", "0x"):
        assert secret not in response.text
    return problem


def assert_invalid(response: httpx.Response, field: str) -> dict[str, Any]:
    """Assert that an answer refuses one field of a request; return the problem."""
    problem = assert_problem(response, "validation")
    assert problem["errors"]
    for error in problem["errors"]:
        assert set(error) == {"field", "message"}
        assert error["message"]
    fields = [error["field"] for error in problem["errors"]]
    assert field in fields or any(found.startswith(f"{field}.") for found in fields), problem
    return problem
