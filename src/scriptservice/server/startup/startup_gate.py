"""Answers requests with 503 until the server has started.

While a server starts, new connections normally wait in the listening socket's backlog. If the start
has to wait for the database, this could take long. In that case, the server accepts the
connections, and the gate answers their requests with 503.
"""

from collections.abc import Iterable

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from scriptservice.server.access.origin_check import OriginCheck
from scriptservice.server.http.command_json import to_json
from scriptservice.server.http.problem_responses import RETRY_SECONDS, problem_response


class StartupGate:
    """An ASGI application that answers with 503 until `open` is called, then passes requests on.

    Args:
        hosts: names besides localhost that a request's Host header may contain. While the gate is
            closed, it makes the origin check itself.

    Attributes:
        is_open: whether the gate passes requests on.
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        self._app: ASGIApp = OriginCheck(_unavailable, hosts)
        self.is_open = False

    def open(self, app: ASGIApp) -> None:
        """Pass all further requests to an application."""
        self._app = app
        self.is_open = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        await self._app(scope, receive, send)


async def _unavailable(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    if scope["path"] == "/healthz" and scope["method"] in ("GET", "HEAD"):
        response = Response(to_json({"status": "ok"}), media_type="application/json")
    else:
        response = problem_response(
            "store-unavailable",
            "cannot work now: the database has not answered since this server started",
            scope["path"],
            {"Retry-After": str(RETRY_SECONDS)},
        )
    await response(scope, receive, send)
