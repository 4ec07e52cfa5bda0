"""Authentication: every route needs a token or a session, except the few that are open to everyone.

The check runs before routing, so that no route can forget it.
"""

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from scriptservice.server.access.origin_check import SAFE_METHODS
from scriptservice.server.access.page_sessions import PageSessions, session_secret
from scriptservice.server.access.valid_tokens import ValidTokens
from scriptservice.server.http.problem_responses import CHALLENGE, problem_response
from scriptservice.server.http.websocket_handshake import ACCEPT_KEY
from scriptservice.server.page.page_files import is_page_path
from scriptservice.store.queries.tokens import Token

SESSION_PATH = "/v1/session"
CSRF_HEADER = "X-CSRF-Token"
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json", "/docs"})
_WHERE_TOKENS_ARE = "the first token is in the data directory, in the file token"
_NO_TOKEN = f"the request has no token: send Authorization: Bearer TOKEN; {_WHERE_TOKENS_ARE}"
_INVALID_TOKEN = f"the token is not valid; {_WHERE_TOKENS_ARE}"
_CSRF = CSRF_HEADER.lower().encode()
_SCHEME = b"bearer "
_MAX_TOKEN_BYTES = 512


class TokenCheck:
    """The ASGI layer that refuses requests without a valid token or session.

    Requests to open paths pass without a check. For other requests, the layer sets ``state.token``.
    If such a request has no Authorization header, the layer also sets ``state.session``.

    Args:
        app: the next layer.
        tokens: the valid tokens.
        sessions: the sessions of the web page.
    """

    def __init__(self, app: ASGIApp, tokens: ValidTokens, sessions: PageSessions) -> None:
        self._app = app
        self._tokens = tokens
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 401 or 403."""
        if scope["type"] != "http" or is_open(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        refusal = self._authenticate(scope)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        kind, detail = refusal
        headers = CHALLENGE if kind == "unauthenticated" else None
        response = problem_response(kind, detail, scope["path"], headers)
        await response(scope, receive, send)

    def _authenticate(self, scope: Scope) -> tuple[str, str] | None:
        """Set ``state.token`` to the token of the request or of its session.

        Returns:
            None if the request may pass, else the problem's kind and detail.
        """
        authorization = [value for name, value in scope["headers"] if name == b"authorization"]
        state = scope.setdefault("state", {})
        # If there is an Authorization header, ignore cookies: a browser adds them to every request.
        if authorization:
            token = self._find_token(authorization)
        else:
            secret = session_secret(scope["headers"])
            session = None if secret is None else self._sessions.find(secret)
            token = None if session is None else session.token
            state["session"] = session
            if session is not None and scope["method"] not in SAFE_METHODS:
                sent = [value for name, value in scope["headers"] if name == _CSRF]
                if len(sent) != 1 or not hmac.compare_digest(sent[0], session.csrf_token.encode()):
                    return "forbidden", f"the header {CSRF_HEADER} is missing or wrong"
            if session is not None and ACCEPT_KEY in scope and not _has_origin(scope):
                # A page cannot send a CSRF token with a WebSocket. But a browser always sends the
                # Origin header with it, and the origin check has compared this header with Host.
                return "forbidden", "a WebSocket with a session needs an Origin header"
        if token is None:
            return "unauthenticated", _INVALID_TOKEN if authorization else _NO_TOKEN
        state["token"] = token
        return None

    def _find_token(self, authorization: list[bytes]) -> Token | None:
        if len(authorization) != 1 or len(authorization[0]) > _MAX_TOKEN_BYTES:
            return None
        if authorization[0][: len(_SCHEME)].lower() != _SCHEME:
            return None
        return self._tokens.find(authorization[0][len(_SCHEME) :].strip().decode("latin-1"))


def _has_origin(scope: Scope) -> bool:
    return any(name == b"origin" for name, _ in scope["headers"])


def is_open(method: str, path: str) -> bool:
    """Return whether a request needs no authentication: a sign-in, or a request to an open path."""
    if path == SESSION_PATH:
        return method == "POST"
    return path in OPEN_PATHS or is_page_path(path)
