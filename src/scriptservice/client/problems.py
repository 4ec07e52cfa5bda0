"""What can go wrong for a client, one class for each problem type of the contract.

::

    ScriptServiceError
    └── ClientError
        ├── ConnectionLostError      nobody answered for as long as was to be tried
        ├── UnexpectedAnswerError    somebody answered, and not like a ScriptService
        └── ProblemError             the service said no; .type, .status, .detail, .errors
            ├── BadRequestError … StorageFullError (one for each type)

"""

import json
from typing import Any

from scriptservice.errors import ScriptServiceError


class ClientError(ScriptServiceError):
    """A request did not lead to what was asked for."""


class ConnectionLostError(ClientError):
    """Nobody answered for as long as was to be tried."""


class UnexpectedAnswerError(ClientError):
    """Somebody answered, and not like a ScriptService: a proxy, another service."""


class ProblemError(ClientError):
    """The service said no.

    Attributes:
        type: the problem's stable relative URI, ``/problems/not-found``.
        status: the HTTP status.
        title: what kind of problem it is.
        detail: what happened here.
        errors: for 422: objects with ``field`` and ``message``.
        members: everything the service said.
    """

    kind = ""

    def __init__(self, status: int, members: dict[str, Any]) -> None:
        self.type = str(members.get("type", "about:blank"))
        self.status = status
        self.title = str(members.get("title", ""))
        self.detail = str(members.get("detail", self.title))
        self.errors: list[dict[str, str]] = list(members.get("errors") or [])
        self.members = members
        super().__init__(self.detail)


class BadRequestError(ProblemError):
    """The request could not be read."""

    kind = "bad-request"


class ValidationProblemError(ProblemError):
    """The request says something that cannot be; ``errors`` says what."""

    kind = "validation"


class UnauthenticatedError(ProblemError):
    """The token is missing or not known."""

    kind = "unauthenticated"


class ForbiddenError(ProblemError):
    """The token may not do this."""

    kind = "forbidden"


class NotFoundError(ProblemError):
    """There is no such command, or no such route."""

    kind = "not-found"


class MethodNotAllowedError(ProblemError):
    """This method does not work there."""

    kind = "method-not-allowed"


class AlreadyFinishedError(ProblemError):
    """The command has ended; ``members["command"]`` is how."""

    kind = "already-finished"


class NotFinishedError(ProblemError):
    """The command has not ended."""

    kind = "not-finished"


class NotInteractiveError(ProblemError):
    """The command takes no input."""

    kind = "not-interactive"


class NotRunningError(ProblemError):
    """The command does not run."""

    kind = "not-running"


class OffsetMismatchError(ProblemError):
    """Other input was accepted than the client thinks."""

    kind = "offset-mismatch"


class GoneError(ProblemError):
    """What was made with this Idempotency-Key has been deleted."""

    kind = "gone"


class TooLargeError(ProblemError):
    """The request is too large."""

    kind = "too-large"


class HeadersTooLargeError(ProblemError):
    """The headers of the request are too large."""

    kind = "headers-too-large"


class UnsupportedMediaTypeError(ProblemError):
    """This kind of content is not taken."""

    kind = "unsupported-media-type"


class RangeNotSatisfiableError(ProblemError):
    """The range lies outside the output."""

    kind = "range-not-satisfiable"


class HostNotAllowedError(ProblemError):
    """The service does not answer to this host name."""

    kind = "host-not-allowed"


class IdempotencyMismatchError(ProblemError):
    """Another request was made with this Idempotency-Key."""

    kind = "idempotency-mismatch"


class TooManyRequestsError(ProblemError):
    """Too much at once; worth another try."""

    kind = "too-many-requests"


class InternalError(ProblemError):
    """The service failed; its log says why."""

    kind = "internal"


class StoreUnavailableError(ProblemError):
    """The service cannot store or read now; worth another try."""

    kind = "store-unavailable"


class StorageFullError(ProblemError):
    """The service's disk is full."""

    kind = "storage-full"


PROBLEMS = {each.kind: each for each in ProblemError.__subclasses__()}


def error_of(url: str, status: int, content_type: str, body: bytes) -> ClientError:
    """Return the error that an answer is which does not say yes.

    Args:
        url: what was asked.
        status: the HTTP status.
        content_type: of the answer.
        body: of the answer.
    """
    if content_type.partition(";")[0].strip() == "application/problem+json":
        try:
            members = json.loads(body)
            kind = str(members["type"]).rsplit("/", 1)[-1]
            return PROBLEMS.get(kind, ProblemError)(status, members)
        except (ValueError, KeyError, TypeError):
            pass  # not what it says it is: told as what it is below
    shown = content_type or "no content type"
    return UnexpectedAnswerError(
        f"cannot understand the answer of {url}: status {status}, {shown}; "
        "is it a ScriptService, and nothing in between?"
    )
