"""Who may ask: nobody without a token or a session, on any route but the few that are open.

The check stands before routing, so that no route can forget it.
"""

import hmac
import os

from starlette.types import ASGIApp, Receive, Scope, Send

from scriptservice.server.access.origin_check import SAFE_METHODS
from scriptservice.server.access.page_sessions import PageSessions, SessionCookies
from scriptservice.server.access.valid_tokens import ValidTokens
from scriptservice.server.http.problem_responses import CHALLENGE, problem_response
from scriptservice.server.page.page_files import is_page_path
from scriptservice.store.queries.tokens import Token

SESSION_PATH = "/v1/session"
CSRF_HEADER = "X-CSRF-Token"
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json", "/docs"})
HOW_TO_GET_IN = (
    "cannot let you in: send Authorization: Bearer TOKEN; "
    "the first token is in the data directory, in the file token"
)
_CSRF = CSRF_HEADER.lower().encode()
_SCHEME = b"bearer "
_MAX_TOKEN_BYTES = 512


class TokenCheck:
    """The ASGI layer that lets in who has a token or a session.

    ``state.token`` says who it is, ``state.session`` by which session, if by one.

    Args:
        app: what is behind it.
        tokens: all that are valid.
        sessions: who is signed in.
    """

    def __init__(self, app: ASGIApp, tokens: ValidTokens, sessions: PageSessions) -> None:
        self._app = app
        self._tokens = tokens
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with 401 or 403."""
        if scope["type"] != "http" or is_open(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        refusal = self._admit(scope)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        kind, detail = refusal
        headers = CHALLENGE if kind == "unauthenticated" else None
        response = problem_response(kind, detail, scope["path"], headers)
        await response(scope, receive, send)

    def _admit(self, scope: Scope) -> tuple[str, str] | None:
        """Note who asks; return the kind of problem and its detail where nobody does."""
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        state = scope.setdefault("state", {})
        # Whoever says a token means that one: the cookie that a browser adds is no second try.
        if given:
            token = self._token(given)
        else:
            cookies = SessionCookies(scope["headers"])
            session = None if cookies.secret is None else self._sessions.find(cookies.secret)
            token = None if session is None else session.token
            state["session"] = session
            if session is not None and scope["method"] not in SAFE_METHODS:
                said = [value for name, value in scope["headers"] if name == _CSRF]
                if len(said) != 1 or not hmac.compare_digest(said[0], session.csrf_token.encode()):
                    return "forbidden", f"cannot do this: {CSRF_HEADER} is not this session's"
        if token is None:
            return "unauthenticated", HOW_TO_GET_IN
        state["token"] = token
        return None

    def _token(self, given: list[bytes]) -> Token | None:
        if len(given) != 1 or len(given[0]) > _MAX_TOKEN_BYTES:
            return None
        if given[0][: len(_SCHEME)].lower() != _SCHEME:
            return None
        return self._tokens.find(given[0][len(_SCHEME) :].strip().decode("latin-1"))


def is_open(method: str, path: str) -> bool:
    """Return whether a request needs no token: it signs in, or what it asks for is open to all."""
    if path == SESSION_PATH:
        return method == "POST"
    return path in OPEN_PATHS or is_page_path(path)


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
