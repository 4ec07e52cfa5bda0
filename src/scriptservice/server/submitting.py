"""The hot route: ``POST /v1/commands`` goes straight to its function.

FastAPI's and Starlette's layers (telemetry, a body limit, exit stacks, routing) cost a submit as
much as everything this service does for it, and it needs none of them: its function takes the
request as it is and returns a ready response. All other requests go through them.
"""

from fastapi import FastAPI, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from scriptservice.server.problems import answer
from scriptservice.server.routes.commands import submit
from scriptservice.server.routes.requests import release_body

PATH = "/v1/commands"


class SubmitRoute:
    """The ASGI layer behind all checks and before the application.

    Args:
        app: the application, which has the same route for what describes it.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app: ASGIApp = app
        self._owner = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a submit; pass everything else on."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["app"] = self._owner  # where a route finds the service's parts
        request = Request(scope, receive)
        try:
            try:
                response = await submit(request)
            except Exception as error:  # noqa: BLE001 - every error is answered, ours as what it is
                response = await answer(request, error)
            # An answer shows the command, which may be as large as the body was.
            await response(scope, receive, send)
        finally:
            release_body(request)
