"""Limits on the size of a request and on the time of its arrival, and the answers to refusals.

`ClientProtocol` enforces the limits on each connection, before a request reaches the application.
"""

from typing import NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from scriptservice.server.http.problem_responses import problem_response
from scriptservice.server.http.response_headers import with_defaults

HEAD_SECONDS = 30.0
"""Longest time from the beginning of a connection to the first byte of a request. The same limit
applies to the time from that byte to the end of the request's headers."""

HEAD_BYTES = 64 << 10
"""Largest size of the request line and the headers, including empty lines before them."""

HEAD_FIELDS = 100
"""Largest number of headers."""

BODY_SECONDS = 30.0
"""Longest time from the end of the headers to the end of the body. One second is added for each
`BODY_RATE_BYTES` that arrive."""

BODY_RATE_BYTES = 1024

LARGE_BODY_BYTES = 256 << 10
"""A body above this size is large. A large body has to arrive with at least `LARGE_BODY_RATE_BYTES`
a second, because other bodies may wait for the memory that it occupies; see ``body_budget``."""

LARGE_BODY_RATE_BYTES = 128 << 10

FRAMING_BYTES = 16 << 10
"""A chunked body contains chunk sizes and extensions between its bytes of data. This is the largest
number of such bytes between two bytes of data."""

UNREAD_BODY_BYTES = 64 << 20
"""If the service answers a request before the body has arrived, it reads and discards the rest of
the body. This is necessary because some clients read the answer only after they have sent
everything. If the body is larger than `UNREAD_BODY_BYTES`, the connection is closed instead."""

LINGER_SECONDS = 2.0
LINGER_BYTES = 1 << 20
"""After a refusal, a client may still send for `LINGER_SECONDS`, but at most `LINGER_BYTES`. The
service discards these bytes, for the same reason as the rest of a body; see `UNREAD_BODY_BYTES`."""


class BadRequest(NamedTuple):
    """A problem with which a request is refused before it reaches the application."""

    kind: str
    detail: str

    def answer(self, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return the complete HTTP answer. It announces that the connection will be closed.

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
    f"the headers have more than {HEAD_BYTES} bytes or {HEAD_FIELDS} fields",
)
HAS_TRAILERS = BadRequest("bad-request", "trailers after a chunked body are not supported")
FRAMING_TOO_LARGE = BadRequest(
    "bad-request", f"the chunk sizes and extensions have more than {FRAMING_BYTES} bytes"
)
NOT_HTTP = BadRequest("bad-request", "the request is not HTTP/1.1")
