"""ScriptService runs scripts that are sent over HTTP, and keeps every byte that they print.

For programs, this package is the client of the service::

    from scriptservice import Client, NotFoundError

    with Client() as client:
        result = client.run("make all", timeout_seconds=600)

`AsyncClient` is the same for asyncio. Every error is a `ScriptServiceError`; the tree is drawn in
``scriptservice.client.problems``.

The way of a command through the folders: ``server`` takes it, ``store`` makes it durable,
``fleet`` dispatches it, ``keeper`` runs it and appends what happens to its journal, ``fleet``
stores that journal in the database, and ``server`` sends it to those who follow.
"""

from typing import TYPE_CHECKING, Any

from scriptservice.version import __version__

if TYPE_CHECKING:
    from scriptservice.client import (
        AlreadyFinishedError,
        AsyncClient,
        AsyncFollowing,
        BadRequestError,
        Chunk,
        Client,
        ClientError,
        Command,
        ConnectionLostError,
        Following,
        ForbiddenError,
        GoneError,
        HeadersTooLargeError,
        Host,
        HostNotAllowedError,
        IdempotencyMismatchError,
        InternalError,
        ListFilters,
        MethodNotAllowedError,
        NotFinishedError,
        NotFoundError,
        NotInteractiveError,
        NotRunningError,
        OffsetMismatchError,
        ProblemError,
        RangeNotSatisfiableError,
        Result,
        ScriptServiceError,
        Status,
        StorageFullError,
        StoreUnavailableError,
        SubmitFields,
        TooLargeError,
        TooManyRequestsError,
        UnauthenticatedError,
        UnexpectedAnswerError,
        UnsupportedMediaTypeError,
        ValidationProblemError,
    )

__all__ = [
    "AlreadyFinishedError",
    "AsyncClient",
    "AsyncFollowing",
    "BadRequestError",
    "Chunk",
    "Client",
    "ClientError",
    "Command",
    "ConnectionLostError",
    "Following",
    "ForbiddenError",
    "GoneError",
    "HeadersTooLargeError",
    "Host",
    "HostNotAllowedError",
    "IdempotencyMismatchError",
    "InternalError",
    "ListFilters",
    "MethodNotAllowedError",
    "NotFinishedError",
    "NotFoundError",
    "NotInteractiveError",
    "NotRunningError",
    "OffsetMismatchError",
    "ProblemError",
    "RangeNotSatisfiableError",
    "Result",
    "ScriptServiceError",
    "Status",
    "StorageFullError",
    "StoreUnavailableError",
    "SubmitFields",
    "TooLargeError",
    "TooManyRequestsError",
    "UnauthenticatedError",
    "UnexpectedAnswerError",
    "UnsupportedMediaTypeError",
    "ValidationProblemError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import the client when a name of it is used: keeper, server and ``version`` need none."""
    if name in __all__:
        from scriptservice import client

        return getattr(client, name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
