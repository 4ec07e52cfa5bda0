"""Who may ask: nobody without a token, on any route but the few that are open.

The check stands before routing, so that no route can forget it.
"""

import hmac
import os
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from scriptservice.server.problems import problem_response
from scriptservice.store.tokens import Token, digest

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/docs"})
_SCHEME = b"bearer "
_MAX_TOKEN_BYTES = 512


class TokenCheck:
    """The ASGI layer that lets in who has a token; ``state.token`` says who it is.

    Args:
        app: what is behind it.
        tokens: all that are valid.
    """

    def __init__(self, app: ASGIApp, tokens: Iterable[Token]) -> None:
        self._app = app
        self._tokens = tuple(tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with 401."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            token = self._token(scope)
            if token is None:
                response = problem_response(
                    "unauthenticated",
                    "cannot let you in: send Authorization: Bearer TOKEN; "
                    "the first token is in the data directory, in the file token",
                    scope["path"],
                    {"WWW-Authenticate": 'Bearer realm="scriptservice"'},
                )
                await response(scope, receive, send)
                return
            scope.setdefault("state", {})["token"] = token
        await self._app(scope, receive, send)

    def _token(self, scope: Scope) -> Token | None:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1 or len(given[0]) > _MAX_TOKEN_BYTES:
            return None
        if given[0][: len(_SCHEME)].lower() != _SCHEME:
            return None
        hashed = digest(given[0][len(_SCHEME) :].strip().decode("latin-1"))
        # Every token is compared, each in constant time: the time tells nothing about any.
        found: Token | None = None
        for token in self._tokens:
            if hmac.compare_digest(token.sha256, hashed):
                found = token
        return found


def write_token_file(directory: str, text: str) -> None:
    """Write a token to ``token`` in the data directory, for its owner only, all or nothing."""
    temporary = os.path.join(directory, ".token.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, os.path.join(directory, "token"))
