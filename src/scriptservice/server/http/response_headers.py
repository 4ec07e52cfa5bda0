"""Headers that tell a browser what it may do with an answer. Every answer has such headers.

Uvicorn adds the headers in `FIXED` to every answer, even to answers that uvicorn makes itself. This
costs nothing, because uvicorn adds a list of default headers anyway. The Content-Security-Policy is
not the same for all answers. If an answer must load or run something, its route sets a policy that
permits this. `DefaultHeaders` adds a policy that permits nothing to all other answers.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

FIXED = [
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]

POLICY = "Content-Security-Policy"
NOTHING = "default-src 'none'; frame-ancestors 'none'"
PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)

_NAME = POLICY.lower().encode()
_NOTHING = (_NAME, NOTHING.encode())
_NO_STORE = (b"cache-control", b"no-store")


def _missing(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the default headers that an answer does not set itself."""
    names = {name for name, _ in headers}
    missing = []
    if _NAME not in names:
        missing.append(_NOTHING)
    if b"cache-control" not in names:
        # Caches do not store the answer to a request with an Authorization header. But they may
        # store the answer to a request with a cookie, unless Cache-Control forbids that.
        missing.append(_NO_STORE)
    return missing


def with_defaults(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return an answer's headers with the defaults added, as `DefaultHeaders` adds them.

    Args:
        headers: the answer's headers; names in lower case.
    """
    return [*headers, *_missing(headers)]


class DefaultHeaders:
    """The ASGI layer around all others. It adds restrictive headers to answers that lack them.

    These headers forbid an answer to load or run anything, and forbid every cache to store it.

    Args:
        app: the next layer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and add the missing headers to its answer."""

        async def send_with_defaults(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].extend(_missing(message["headers"]))
            await send(message)

        await self._app(scope, receive, send_with_defaults)
