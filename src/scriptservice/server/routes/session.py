"""Signing in to the page, out of it, and who is signed in."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from scriptservice.server.access.page_sessions import Sessions, SignedIn, set_cookie
from scriptservice.server.access.sign_in import SignIn
from scriptservice.server.http.command_json import to_json
from scriptservice.server.http.problem_responses import CHALLENGE, ProblemError
from scriptservice.server.routes import openapi
from scriptservice.server.routes.request_models import SignInBody
from scriptservice.server.routes.request_parts import body, content_type, json_body, no_query

router = APIRouter(prefix="/v1/session", tags=["session"])

JSON = "application/json"
BODY_BYTES = 4 << 10
_NOT_KEPT = {"Cache-Control": "no-store"}


@router.post("", **openapi.SIGN_IN)
async def sign_in(request: Request) -> Response:
    """Begin a session: show a token or the code of a sign-in link, get a cookie."""
    no_query(request)
    if content_type(request)[0] != JSON:
        detail = "cannot take this content type: send application/json"
        raise ProblemError("unsupported-media-type", detail)
    asked = json_body(await body(request, BODY_BYTES), SignInBody)
    client = request.client
    entry: SignIn = request.app.state.sign_in
    secret, session = await entry.enter(asked.token, asked.code, client.host if client else "")
    return _session_response(session, set_cookie(secret, secure=_came_by_https(request)))


def _came_by_https(request: Request) -> bool:
    """Return whether the browser is at an https address; the proxy in front of us speaks http.

    The browser says so itself, in a header that no page can change. The door has compared the
    rest of it.
    """
    return request.headers.get("origin", "").lower().startswith("https://")


def _session_response(session: SignedIn, cookie: str | None = None) -> Response:
    answer = {
        "name": session.token.name,
        "scope": session.token.scope,
        "csrf_token": session.csrf_token,
    }
    headers = _NOT_KEPT if cookie is None else _NOT_KEPT | {"Set-Cookie": cookie}
    return Response(to_json(answer), headers=headers, media_type=JSON)


def _own_session(request: Request) -> SignedIn:
    """Return the session that the request came with.

    Raises:
        ProblemError: it came with a token.
    """
    session: SignedIn | None = getattr(request.state, "session", None)
    if session is None:
        detail = "cannot tell of a session: there is none, you came with a token"
        raise ProblemError("unauthenticated", detail, headers=CHALLENGE)
    return session


@router.get("", **openapi.GET_SESSION)
async def get_session(request: Request) -> Response:
    """Say who is signed in."""
    no_query(request)
    return _session_response(_own_session(request))


@router.delete("", **openapi.SIGN_OUT)
async def sign_out(request: Request) -> Response:
    """End the session, for every copy of its cookie."""
    no_query(request)
    kept: Sessions = request.app.state.sessions
    await kept.end(_own_session(request))
    response = Response(status_code=204, headers=_NOT_KEPT)
    for secure in (False, True):
        response.headers.append("Set-Cookie", set_cookie("", secure=secure))
    return response
