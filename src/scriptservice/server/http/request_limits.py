"""How large a request may be and how long it may take to arrive, and what a refusal looks like.

`ClientProtocol` enforces the limits on each connection, before a request reaches the application.
"""

from typing import NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from scriptservice.server.http.problem_responses import problem_response
from scriptservice.server.http.response_headers import with_defaults

HEAD_SECONDS = 30.0
"""Longest time from the beginning of a connection to the first byte of a request, and from that
byte to the end of the request's headers."""

HEAD_BYTES = 64 << 10
"""Largest size of the request line and the headers, including empty lines before them."""

HEAD_FIELDS = 100
"""Largest number of headers."""

BODY_SECONDS = 30.0
"""Longest time from the end of the headers to the end of the body. One second is added for each
`BODY_RATE_BYTES` that arrive."""

BODY_RATE_BYTES = 1024

LARGE_BODY_BYTES = 256 << 10
"""Size above which a body is large. A large body has to arrive at `LARGE_BODY_RATE_BYTES` a second,
because it takes memory that other bodies wait for; see ``body_budget``."""

LARGE_BODY_RATE_BYTES = 128 << 10

FRAMING_BYTES = 16 << 10
"""Largest size of all chunk sizes and extensions between two bytes of a chunked body."""

UNREAD_BODY_BYTES = 64 << 20
"""Largest size of a body whose request is answered before the body ends. The rest of the body is
read and discarded: some clients read the answer only after they have sent everything. If the body
is larger, the connection is closed."""

LINGER_SECONDS = 2.0
LINGER_BYTES = 1 << 20
"""For how long, and how many bytes, a client may still send after a refusal. These bytes are
discarded for the same reason as an unread body."""


class BadRequest(NamedTuple):
    """The problem with which a request is refused before it reaches the application."""

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
