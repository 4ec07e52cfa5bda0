"""The hot route: ``POST /v1/commands`` goes straight to its function.

FastAPI's and Starlette's layers (telemetry, a body limit, exit stacks, routing) cost a submit as
much as everything this service does for it, and it needs none of them: its function takes the
request as it is and returns a ready response. All other requests go through them.
"""

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from scriptservice.server.http.problem_responses import answer
from scriptservice.server.routes.commands import submit
from scriptservice.server.routes.request_parts import has_room, release_body, service

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
            # Not kept in a variable: it shows the command, and may be as large as the body was.
            await (await _answered(request))(scope, receive, send)
            if has_room(request):
                # What the keeper is sent is as large again.
                await service(request).handed_over()
        finally:
            release_body(request)


async def _answered(request: Request) -> Response:
    try:
        return await submit(request)
    except Exception as error:  # noqa: BLE001 - every error is answered, ours as what it is
        return await answer(request, error)
