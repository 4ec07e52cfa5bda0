"""The gate: what is asked before the server's parts are there is answered with why it has to wait.

Connections wait in the backlog while a server starts; only when its database is away, which may be
for long, does it answer without it.
"""

from collections.abc import Iterable

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from scriptservice.server.access.origin_check import OriginCheck
from scriptservice.server.http.command_json import to_json
from scriptservice.server.http.problem_responses import RETRY_SECONDS, problem_response


class StartupGate:
    """The ASGI application that uvicorn serves; passes everything on once it is open.

    Args:
        hosts: names of the service; what is closed has the same door as what is open.

    Attributes:
        is_open: whether it is.
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        self._app: ASGIApp = OriginCheck(_closed, hosts)
        self.is_open = False

    def open(self, app: ASGIApp) -> None:
        """Pass requests on to an application from now on."""
        self._app = app
        self.is_open = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        await self._app(scope, receive, send)


async def _closed(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    if scope["path"] == "/healthz" and scope["method"] in ("GET", "HEAD"):
        response = Response(to_json({"status": "ok"}), media_type="application/json")
    else:
        response = problem_response(
            "store-unavailable",
            "cannot work now: the database does not answer since this server started",
            scope["path"],
            {"Retry-After": str(RETRY_SECONDS)},
        )
    await response(scope, receive, send)
