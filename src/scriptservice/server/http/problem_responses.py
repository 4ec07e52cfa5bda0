"""Errors as answers: ``application/problem+json`` (RFC 9457), mapped in one place."""

import json
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from scriptservice.errors import (
    AlreadyFinishedError,
    FieldError,
    GoneError,
    IdempotencyMismatchError,
    NotFinishedError,
    ScriptServiceError,
    StorageFullError,
    StoreUnavailableError,
    UnknownCommandError,
    ValidationError,
)
from scriptservice.server.http.command_json import command_view

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="scriptservice"'}
"""What goes with every 401."""

TITLES = {
    "bad-request": (400, "The request cannot be read"),
    "unauthenticated": (401, "A token is needed"),
    "forbidden": (403, "This is not for you"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "This method does not work here"),
    "already-finished": (409, "The command has ended"),
    "not-finished": (409, "The command has not ended"),
    "gone": (410, "What this request made has been deleted"),
    "too-large": (413, "The request is too large"),
    "unsupported-media-type": (415, "This kind of content is not taken"),
    "range-not-satisfiable": (416, "The range lies outside the output"),
    "host-not-allowed": (421, "The service does not have this name"),
    "validation": (422, "The request says something that cannot be"),
    "idempotency-mismatch": (422, "Another request had this Idempotency-Key"),
    "too-many-requests": (429, "There were too many requests"),
    "headers-too-large": (431, "The headers are too large"),
    "internal": (500, "The service failed"),
    "store-unavailable": (503, "The service cannot store or read now"),
    "storage-full": (507, "The disk is full"),
}

log = structlog.get_logger()


class ProblemError(Exception):
    """An answer that is a problem.

    Args:
        kind: the last part of its ``type``.
        detail: what happened here, for a person.
        headers: more of the answer's headers.
        members: more members of the problem.
    """

    def __init__(
        self, kind: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = headers or {}
        self.members = members


def problem_response(
    kind: str, detail: str, instance: str, headers: dict[str, str] | None = None, **members: Any
) -> Response:
    """Return the answer for a problem.

    Args:
        kind: the last part of its ``type``.
        detail: what happened here, for a person.
        instance: the path that was asked for.
        headers: more headers.
        members: more members.
    """
    status, title = TITLES[kind]
    body = {
        "type": f"/problems/{kind}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": instance,
        **members,
    }
    return Response(
        json.dumps(body, ensure_ascii=False), status, headers=headers, media_type=MEDIA_TYPE
    )


def to_problem(error: Exception) -> ProblemError:  # noqa: PLR0911 - a table
    """Return the problem that an error of ours is to a client."""
    match error:
        case ProblemError():
            return error
        case ValidationError():
            return ProblemError("validation", str(error), errors=_fields(error.errors))
        case UnknownCommandError():
            return ProblemError("not-found", str(error))
        case AlreadyFinishedError():
            return ProblemError("already-finished", str(error), command=command_view(error.command))
        case NotFinishedError():
            return ProblemError("not-finished", str(error))
        case GoneError():
            return ProblemError("gone", str(error))
        case IdempotencyMismatchError():
            return ProblemError("idempotency-mismatch", str(error))
        case StorageFullError():
            return ProblemError("storage-full", str(error))
        case StoreUnavailableError():
            headers = {"Retry-After": str(RETRY_SECONDS)}
            return ProblemError("store-unavailable", str(error), headers=headers)
    return ProblemError("internal", "cannot answer: the service failed; its log says why")


def _fields(errors: tuple[FieldError, ...]) -> list[dict[str, str]]:
    return [{"field": error.field, "message": error.message} for error in errors]


async def _ours(request: Request, error: Exception) -> Response:
    problem = to_problem(error)
    return problem_response(
        problem.kind, problem.detail, request.url.path, problem.headers, **problem.members
    )


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("request_failed", path=request.url.path, exc_info=error)
    return await _ours(request, error)


async def answer(request: Request, error: Exception) -> Response:
    """Return the answer to a request whose route failed, where no application stands around it."""
    known = isinstance(error, ProblemError | ScriptServiceError)
    return await (_ours if known else _unexpected)(request, error)


async def _http(request: Request, error: Exception) -> Response:
    """Starlette's own: no such route, or not with this method."""
    assert isinstance(error, HTTPException)  # noqa: S101
    path = request.url.path
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = ", ".join(sorted(allowed_methods(request)))
        detail = f"cannot {request.method} {path}: it takes {allow}"
        return problem_response("method-not-allowed", detail, path, {"Allow": allow})
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem_response("not-found", f"cannot find {path}", path)
    return problem_response("bad-request", str(error.detail), path)


def allowed_methods(request: Request) -> set[str]:
    """Return all methods that some route takes at a request's path."""
    methods: set[str] = set()
    for route in request.app.state.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return methods | ({"HEAD"} if "GET" in methods else set())


def install(app: FastAPI) -> None:
    """Let an application answer every error with a problem."""
    app.add_exception_handler(ProblemError, _ours)
    app.add_exception_handler(ScriptServiceError, _ours)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
