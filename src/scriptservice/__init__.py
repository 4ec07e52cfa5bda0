"""ScriptService runs scripts that are sent over HTTP, and keeps every byte that they print.

Programs use the service through the client in this package::

    from scriptservice import Client, NotFoundError

    with Client() as client:
        result = client.run("make all", timeout_seconds=600)

`AsyncClient` has the same methods for asyncio. Every error is a `ScriptServiceError`; the docstring
of ``scriptservice.client.problems`` shows the tree of errors.

A command passes through the folders in this order: ``server`` accepts the command, ``store`` makes
it durable, and ``fleet`` dispatches it. ``keeper`` runs the command, and records in a journal what
happens. ``fleet`` stores that journal in the database, and ``server`` sends the changes to the
clients that follow the command.
"""

from typing import TYPE_CHECKING, Any

from scriptservice.version import __version__

if TYPE_CHECKING:
    from scriptservice.client import (
        AlreadyFinishedError,
        AsyncAttachment,
        AsyncClient,
        AsyncFollowing,
        Attachment,
        BadRequestError,
        BusyError,
        Chunk,
        Client,
        ClientError,
        Command,
        Concurrency,
        ConnectionLostError,
        Following,
        ForbiddenError,
        GoneError,
        HeadersTooLargeError,
        Host,
        HostNotAllowedError,
        HostUnavailableError,
        IdempotencyMismatchError,
        InputReceipt,
        InternalError,
        LimitFields,
        ListFilters,
        MethodNotAllowedError,
        NotFinishedError,
        NotFoundError,
        NotInteractiveError,
        NotRunningError,
        OffsetMismatchError,
        ProblemError,
        PtySize,
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
    "AsyncAttachment",
    "AsyncClient",
    "AsyncFollowing",
    "Attachment",
    "BadRequestError",
    "BusyError",
    "Chunk",
    "Client",
    "ClientError",
    "Command",
    "Concurrency",
    "ConnectionLostError",
    "Following",
    "ForbiddenError",
    "GoneError",
    "HeadersTooLargeError",
    "Host",
    "HostNotAllowedError",
    "HostUnavailableError",
    "IdempotencyMismatchError",
    "InputReceipt",
    "InternalError",
    "LimitFields",
    "ListFilters",
    "MethodNotAllowedError",
    "NotFinishedError",
    "NotFoundError",
    "NotInteractiveError",
    "NotRunningError",
    "OffsetMismatchError",
    "ProblemError",
    "PtySize",
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
    """Import the client only when one of its names is used.

    The keeper, the server and ``scriptservice version`` do not need the client.
    """
    if name in __all__:
        from scriptservice import client

        return getattr(client, name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
