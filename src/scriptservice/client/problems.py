"""The errors that the clients raise: one tree, all exported by ``scriptservice``.

::

    ScriptServiceError
    └── ClientError                      also: the URL, token, CA file or proxy cannot be used
        ├── ConnectionLostError          nobody answered in time
        ├── UnexpectedAnswerError        the answer is not from a ScriptService
        └── ProblemError                 the service refused: .type, .status, .detail, .errors
            ├── BadRequestError              400  the request cannot be read
            ├── ValidationProblemError       422  a field has a value that is not accepted
            ├── UnauthenticatedError         401  the token is missing or unknown
            ├── ForbiddenError               403  the token may not do this
            ├── NotFoundError                404  there is no such command
            ├── MethodNotAllowedError        405
            ├── AlreadyFinishedError         409  the command has ended
            ├── NotFinishedError             409  the command has not ended
            ├── BusyError                    409  the concurrency key is busy
            ├── NotInteractiveError          409  the command takes no input
            ├── NotRunningError              409  the command is not running
            ├── OffsetMismatchError          409  the input does not follow the accepted input
            ├── GoneError                    410  the command of the Idempotency-Key was deleted
            ├── TooLargeError                413  the body is too large
            ├── UnsupportedMediaTypeError    415
            ├── RangeNotSatisfiableError     416  the range lies outside the output
            ├── HostNotAllowedError          421  the service does not accept this host name
            ├── IdempotencyMismatchError     422  the Idempotency-Key belongs to another request
            ├── TooManyRequestsError         429  try again later
            ├── HeadersTooLargeError         431
            ├── InternalError                500  the service failed; its log has the reason
            ├── StoreUnavailableError        503  try again later
            ├── HostUnavailableError         503  the keeper does not answer; try again later
            └── StorageFullError             507  the service's disk is full

If the client does not know the type of a problem, it raises a plain `ProblemError`. If nobody
answers, or the status is 429 or 503, the clients themselves try again until ``retry_seconds`` are
over.
"""

import json
from typing import Any

import httpx2 as httpx

from scriptservice.errors import ScriptServiceError


class ClientError(ScriptServiceError):
    """The client cannot do what its caller asked for."""


class ConnectionLostError(ClientError):
    """Nobody answered in time."""


class UnexpectedAnswerError(ClientError):
    """The answer is not from a ScriptService; it may be an error page of a proxy."""


class ProblemError(ClientError):
    """The service refused the request.

    Attributes:
        type: the problem's stable relative URI, such as ``/problems/not-found``.
        status: the HTTP status.
        title: the kind of problem, in words.
        detail: what happened in this case.
        errors: for a `ValidationProblemError`, the invalid fields, as objects with ``field`` and
            ``message``; else empty.
        members: the whole JSON object that the service sent.

    Args:
        status: the HTTP status.
        members: the JSON object that the service sent.
    """

    kind = ""
    """The last part of the problem's ``type``, such as ``not-found``."""

    def __init__(self, status: int, members: dict[str, Any]) -> None:
        self.type = str(members.get("type", "about:blank"))
        self.status = status
        self.title = str(members.get("title", ""))
        self.detail = str(members.get("detail", self.title))
        self.errors: list[dict[str, str]] = list(members.get("errors") or [])
        self.members = members
        super().__init__(self.detail)


class BadRequestError(ProblemError):
    """The request cannot be read."""

    kind = "bad-request"


class ValidationProblemError(ProblemError):
    """A field has a value that the service does not accept; see ``errors`` for the reason."""

    kind = "validation"


class UnauthenticatedError(ProblemError):
    """The token is missing or unknown."""

    kind = "unauthenticated"


class ForbiddenError(ProblemError):
    """The token may not do this."""

    kind = "forbidden"


class NotFoundError(ProblemError):
    """There is no such command, or the service has nothing at this URL."""

    kind = "not-found"


class MethodNotAllowedError(ProblemError):
    """The URL does not take this HTTP method."""

    kind = "method-not-allowed"


class AlreadyFinishedError(ProblemError):
    """The command has ended; ``members["command"]`` is the command."""

    kind = "already-finished"


class NotFinishedError(ProblemError):
    """The command has not ended."""

    kind = "not-finished"


class BusyError(ProblemError):
    """The concurrency key is busy, and the command was to be rejected in that case."""

    kind = "busy"


class NotInteractiveError(ProblemError):
    """The command takes no input."""

    kind = "not-interactive"


class NotRunningError(ProblemError):
    """The command is not running."""

    kind = "not-running"


class OffsetMismatchError(ProblemError):
    """The input does not follow the input that was accepted before."""

    kind = "offset-mismatch"


class GoneError(ProblemError):
    """The command that was made with this Idempotency-Key has been deleted."""

    kind = "gone"


class TooLargeError(ProblemError):
    """The body of the request is too large."""

    kind = "too-large"


class HeadersTooLargeError(ProblemError):
    """The headers of the request are too large."""

    kind = "headers-too-large"


class UnsupportedMediaTypeError(ProblemError):
    """The service does not take this content type."""

    kind = "unsupported-media-type"


class RangeNotSatisfiableError(ProblemError):
    """The range lies outside the output."""

    kind = "range-not-satisfiable"


class HostNotAllowedError(ProblemError):
    """The service does not accept this host name."""

    kind = "host-not-allowed"


class IdempotencyMismatchError(ProblemError):
    """The Idempotency-Key belongs to a request with other content."""

    kind = "idempotency-mismatch"


class TooManyRequestsError(ProblemError):
    """The client sent too many requests; try again later."""

    kind = "too-many-requests"


class InternalError(ProblemError):
    """The service failed; its log has the reason."""

    kind = "internal"


class StoreUnavailableError(ProblemError):
    """The service cannot store or read at the moment; try again later."""

    kind = "store-unavailable"


class HostUnavailableError(ProblemError):
    """The keeper does not answer. What was asked for may have been done; try again later."""

    kind = "host-unavailable"


class StorageFullError(ProblemError):
    """The service's disk is full."""

    kind = "storage-full"


PROBLEMS = {each.kind: each for each in ProblemError.__subclasses__()}
"""The error class for each problem type; the keys are the last parts of the types."""


def problem_of(status: int, members: dict[str, Any]) -> ProblemError:
    """Return the error for a problem.

    Args:
        status: the HTTP status.
        members: the JSON object that the service sent.

    Raises:
        KeyError, TypeError: the object is not a problem.
    """
    kind = str(members["type"]).rsplit("/", 1)[-1]
    return PROBLEMS.get(kind, ProblemError)(status, members)


def error_of(url: str, status: int, content_type: str, body: bytes) -> ClientError:
    """Return the error for an answer that did not grant the request.

    Args:
        url: URL of the request.
        status: the HTTP status of the answer.
        content_type: content type of the answer.
        body: body of the answer.
    """
    if content_type.partition(";")[0].strip() == "application/problem+json":
        try:
            return problem_of(status, json.loads(body))
        except (ValueError, KeyError, TypeError):
            pass  # the content type is right, but the body does not describe a problem
    shown = content_type or "no content type"
    return UnexpectedAnswerError(
        f"cannot understand the answer of {url}: status {status}, {shown}; "
        "is it a ScriptService, and nothing in between?"
    )


def error_of_response(response: httpx.Response) -> ClientError:
    """Return the error for a response that did not grant the request.

    Args:
        response: the response, with its body read to the end.
    """
    content_type = response.headers.get("content-type", "")
    return error_of(str(response.url), response.status_code, content_type, response.content)
