"""Headers of every answer: what a browser may do with it.

uvicorn adds `FIXED` to each answer, its own included, at the price of one list that is joined
anyway. The policy on content differs: whoever makes something that needs more than nothing says
so in its answer, and `DefaultHeaders` says it for all others.
"""

import base64
import hashlib

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


def style_policy(style: str) -> str:
    """Return the policy of a document that has nothing but one style of its own.

    Args:
        style: text of its style element.
    """
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{hashed}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


def _unsaid(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers that an answer lacks."""
    said = {name for name, _ in headers}
    unsaid = []
    if _NAME not in said:
        unsaid.append(_NOTHING)
    if b"cache-control" not in said:
        # Caches keep away from Authorization by themselves, and not from cookies.
        unsaid.append(_NO_STORE)
    return unsaid


def of_bare_answer(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer that does not pass through `DefaultHeaders`.

    Args:
        headers: that it has; names in lower case.
    """
    return [*headers, *_unsaid(headers)]


class DefaultHeaders:
    """The outermost ASGI layer: what an answer does not say of itself is no.

    It may load and run nothing, and nobody may keep it.

    Args:
        app: what is behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and see to the headers of its answer."""

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].extend(_unsaid(message["headers"]))
            await send(message)

        await self._app(scope, receive, with_policy)
