"""The client: programs and the command line use a service through this package.

::

    from scriptservice import Client

    with Client() as client:
        result = client.run("make all")
        print(result.exit_code, result.stdout.decode())

The methods of `Client` block; `AsyncClient` has the same methods for asyncio.

``exchanges`` builds the requests of each method and interprets the answers. It does no network I/O.
``client`` and ``async_client`` send the requests with httpx2. ``connection`` knows how to reach the
service. ``retry`` decides how long each try and all tries together may take. ``streams`` continues
a stream when its connection breaks, and ``attachment`` does the same on a WebSocket. ``types``
defines what the methods return, and ``problems`` defines what they raise. This package imports no
module of the server, the store or the keeper.
"""

from scriptservice.client.async_client import AsyncClient, AsyncFollowing
from scriptservice.client.attachment import AsyncAttachment, Attachment
from scriptservice.client.client import Client, Following
from scriptservice.client.problems import (
    AlreadyFinishedError,
    BadRequestError,
    BusyError,
    ClientError,
    ConnectionLostError,
    ForbiddenError,
    GoneError,
    HeadersTooLargeError,
    HostNotAllowedError,
    HostUnavailableError,
    IdempotencyMismatchError,
    InternalError,
    MethodNotAllowedError,
    NotFinishedError,
    NotFoundError,
    NotInteractiveError,
    NotRunningError,
    OffsetMismatchError,
    ProblemError,
    RangeNotSatisfiableError,
    StorageFullError,
    StoreUnavailableError,
    TooLargeError,
    TooManyRequestsError,
    UnauthenticatedError,
    UnexpectedAnswerError,
    UnsupportedMediaTypeError,
    ValidationProblemError,
)
from scriptservice.client.streams import Chunk
from scriptservice.client.types import (
    Command,
    Concurrency,
    Host,
    InputReceipt,
    LimitFields,
    ListFilters,
    PtySize,
    Result,
    SubmitFields,
)
from scriptservice.errors import ScriptServiceError
from scriptservice.model import Status

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
]
