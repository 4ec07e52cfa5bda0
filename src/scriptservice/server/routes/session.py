"""The routes that sign in to the page, sign out, and tell who is signed in."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from scriptservice.server.access.page_sessions import PageSession, set_cookie
from scriptservice.server.http.command_json import to_json
from scriptservice.server.http.problem_responses import CHALLENGE, ProblemError
from scriptservice.server.routes.decoding import JSON
from scriptservice.server.routes.request_models import SignInBody
from scriptservice.server.routes.route import Call

_NOT_KEPT = {"Cache-Control": "no-store"}


async def sign_in(call: Call[None, SignInBody]) -> Response:
    """Begin a session for a valid token or code of a sign-in link; set the session's cookie."""
    client = call.request.client
    secret, session = await call.services.sign_in.begin(
        call.body.token, call.body.code, client.host if client else ""
    )
    cookie = set_cookie(secret, secure=_came_by_https(call.request))
    return _session_response(session, cookie)


def _came_by_https(request: Request) -> bool:
    """Return whether the page was loaded over https.

    A proxy in front of the service may have turned https into http. So the function looks at the
    scheme in the browser's ``Origin`` header. No page can change this header. The origin check has
    already compared the header's host and port with the ``Host`` header.
    """
    return request.headers.get("origin", "").lower().startswith("https://")


def _session_response(session: PageSession, cookie: str | None = None) -> Response:
    answer = {
        "name": session.token.name,
        "scope": session.token.scope,
        "csrf_token": session.csrf_token,
    }
    headers = _NOT_KEPT if cookie is None else _NOT_KEPT | {"Set-Cookie": cookie}
    return Response(to_json(answer), headers=headers, media_type=JSON)


def _own_session(call: Call[Any, Any]) -> PageSession:
    """Return the session that the request came with.

    Raises:
        ProblemError: the request came with a token and not with a session.
    """
    session: PageSession | None = getattr(call.request.state, "session", None)
    if session is None:
        detail = "cannot find a session: this request came with a token"
        raise ProblemError("unauthenticated", detail, headers=CHALLENGE)
    return session


async def get_session(call: Call[None, None]) -> Response:
    """Return the session of the request: who is signed in."""
    return _session_response(_own_session(call))


async def sign_out(call: Call[None, None]) -> Response:
    """End the session, for every copy of its cookie."""
    await call.services.sessions.end(_own_session(call))
    response = Response(status_code=204, headers=_NOT_KEPT)
    for secure in (False, True):
        response.headers.append("Set-Cookie", set_cookie("", secure=secure))
    return response
