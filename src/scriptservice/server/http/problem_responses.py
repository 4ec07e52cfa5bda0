"""Maps errors to responses of the type ``application/problem+json`` (RFC 9457)."""

import json
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response

from scriptservice.errors import (
    AlreadyFinishedError,
    BusyError,
    DamagedOutputError,
    FieldError,
    GoneError,
    HostUnavailableError,
    IdempotencyMismatchError,
    InputFullError,
    NotFinishedError,
    NotInteractiveError,
    NotRunningError,
    OffsetMismatchError,
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
"""The header of every answer with status 401."""

TITLES = {
    "bad-request": (400, "The request is malformed"),
    "unauthenticated": (401, "A token is required"),
    "forbidden": (403, "Forbidden"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "Method not allowed"),
    "already-finished": (409, "The command has ended"),
    "not-finished": (409, "The command has not ended"),
    "busy": (409, "The concurrency key is busy"),
    "not-interactive": (409, "The command takes no input"),
    "not-running": (409, "The command is not running"),
    "offset-mismatch": (409, "The offset is not that of the accepted input"),
    "gone": (410, "The command created with this idempotency key was deleted"),
    "too-large": (413, "The request is too large"),
    "unsupported-media-type": (415, "Unsupported content type"),
    "range-not-satisfiable": (416, "The range is outside the output"),
    "host-not-allowed": (421, "Unknown host name"),
    "validation": (422, "The request is invalid"),
    "idempotency-mismatch": (422, "The idempotency key was used for another request"),
    "too-many-requests": (429, "Too many requests"),
    "headers-too-large": (431, "The headers are too large"),
    "internal": (500, "The service failed"),
    "store-unavailable": (503, "The database is unavailable"),
    "host-unavailable": (503, "The keeper does not answer"),
    "storage-full": (507, "The disk is full"),
}

CONTENT_RANGE = {"description": "range of the answer, full size", "schema": {"type": "string"}}
PROBLEM_HEADERS: dict[str, dict[str, Any]] = {
    "unauthenticated": {"WWW-Authenticate": {"schema": {"type": "string"}}},
    "method-not-allowed": {"Allow": {"schema": {"type": "string"}}},
    "range-not-satisfiable": {"Content-Range": CONTENT_RANGE},
    "too-many-requests": {"Retry-After": {"schema": {"type": "integer"}}},
    "store-unavailable": {"Retry-After": {"schema": {"type": "integer"}}},
    "host-unavailable": {"Retry-After": {"schema": {"type": "integer"}}},
}
"""The headers of the responses to each kind of problem, as OpenAPI describes them."""

log = structlog.get_logger()


class ProblemError(Exception):
    """Raised to answer a request with a problem.

    Args:
        kind: last part of the problem's ``type``, a key of `TITLES`.
        detail: what happened to this request, for a person.
        headers: further headers of the response.
        members: further members of the problem.
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
    """Return the response for a problem.

    Args:
        kind: last part of the problem's ``type``, a key of `TITLES`.
        detail: what happened to this request, for a person.
        instance: the path of the request.
        headers: further headers of the response.
        members: further members of the problem.
    """
    body = problem_members(kind, detail, instance, **members)
    return Response(
        json.dumps(body, ensure_ascii=False), body["status"], headers=headers, media_type=MEDIA_TYPE
    )


def problem_members(kind: str, detail: str, instance: str, **members: Any) -> dict[str, Any]:
    """Return a problem as an object for JSON; see `problem_response`."""
    status, title = TITLES[kind]
    return {
        "type": f"/problems/{kind}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": instance,
        **members,
    }


def to_problem(error: Exception) -> ProblemError:  # noqa: C901, PLR0911, PLR0912 - a table
    """Return the problem with which the service answers after an error."""
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
        case BusyError():
            return ProblemError("busy", str(error))
        case NotInteractiveError():
            return ProblemError("not-interactive", str(error))
        case NotRunningError():
            return ProblemError("not-running", str(error))
        case OffsetMismatchError():
            return ProblemError("offset-mismatch", str(error), offset=error.offset)
        case InputFullError():
            headers = {"Retry-After": str(RETRY_SECONDS)}
            return ProblemError("too-many-requests", str(error), headers=headers)
        case HostUnavailableError():
            headers = {"Retry-After": str(RETRY_SECONDS)}
            return ProblemError("host-unavailable", str(error), headers=headers)
        case GoneError():
            return ProblemError("gone", str(error))
        case DamagedOutputError():
            return ProblemError("internal", str(error))
        case IdempotencyMismatchError():
            return ProblemError("idempotency-mismatch", str(error))
        case StorageFullError():
            return ProblemError("storage-full", str(error))
        case StoreUnavailableError():
            headers = {"Retry-After": str(RETRY_SECONDS)}
            return ProblemError("store-unavailable", str(error), headers=headers)
    return ProblemError("internal", "the service failed; its log has the reason")


def _fields(errors: tuple[FieldError, ...]) -> list[dict[str, str]]:
    return [{"field": error.field, "message": error.message} for error in errors]


def error_response(request: Request, error: Exception) -> Response:
    """Return the response to a request whose handler raised an error; log unexpected errors."""
    path = request.url.path
    if not isinstance(error, ProblemError | ScriptServiceError):
        log.error("request_failed", path=path, exc_info=error)
    problem = to_problem(error)
    return problem_response(problem.kind, problem.detail, path, problem.headers, **problem.members)
