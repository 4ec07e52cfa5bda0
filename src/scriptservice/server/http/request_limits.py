"""How large a request may be and how long it may take to arrive, and what a refusal looks like.

`ClientProtocol` enforces the limits on each connection, before a request reaches the application.
"""

from typing import NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from scriptservice.server.http.problem_responses import problem_response
from scriptservice.server.http.response_headers import with_defaults

HEAD_SECONDS = 30.0
"""From the connection, or from the first byte of a further request, to the end of its headers."""

HEAD_BYTES = 64 << 10
"""Size of the request line and the headers, with empty lines before them."""

HEAD_FIELDS = 100
"""Number of headers."""

BODY_SECONDS = 30.0
"""From the end of the headers to the end of the body, plus a second for each `BODY_RATE_BYTES`."""

BODY_RATE_BYTES = 1024

LARGE_BODY_BYTES = 256 << 10
"""A longer body has to come faster, since it takes memory that others wait for: `body_budget`."""

LARGE_BODY_RATE_BYTES = 128 << 10

FRAMING_BYTES = 16 << 10
"""Size of the chunk sizes and extensions between two bytes of a chunked body."""

UNREAD_BODY_BYTES = 64 << 20
"""Size of a body whose request was answered before its end. It is discarded as it comes, so that a
client that first sends and then reads finds the answer; a longer body is cut off."""

LINGER_SECONDS = 2.0
LINGER_BYTES = 1 << 20
"""How long, and how much, a client may go on sending after a refusal, for the same reason."""


class BadRequest(NamedTuple):
    """Why a request is refused before it reaches the application: the problem's kind and detail."""

    kind: str
    detail: str

    def answer(self, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return the complete HTTP answer, after which the connection is closed.

        Args:
            default_headers: the headers that uvicorn adds to each answer.
        """
        response = problem_response(self.kind, self.detail, "/")
        lines = [STATUS_LINE[response.status_code]]
        headers = [*default_headers, *with_defaults(response.raw_headers)]
        lines += [b"%s: %s\r\n" % each for each in headers]
        return b"".join([*lines, b"connection: close\r\n\r\n", bytes(response.body)])


HEAD_TOO_LARGE = BadRequest(
    "headers-too-large",
    f"cannot take more than {HEAD_BYTES} bytes or {HEAD_FIELDS} fields of headers",
)
HAS_TRAILERS = BadRequest(
    "bad-request", "cannot take trailers after a chunked body: leave them out"
)
FRAMING_TOO_LARGE = BadRequest(
    "bad-request", f"cannot take more than {FRAMING_BYTES} bytes of chunk sizes and extensions"
)
NOT_HTTP = BadRequest("bad-request", "cannot read the request: it is not HTTP/1.1")
