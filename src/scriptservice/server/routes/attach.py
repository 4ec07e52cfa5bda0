"""The route to attach to an interactive command over a WebSocket."""

from starlette.responses import Response

from scriptservice.server.http.problem_responses import ProblemError
from scriptservice.server.http.websocket_handshake import (
    ACCEPT_KEY,
    VERSION,
    WebSocketResponse,
)
from scriptservice.server.routes.request_models import AttachQuery
from scriptservice.server.routes.route import Call


async def attach(call: Call[AttachQuery, None]) -> Response:
    """Send a command's output over a WebSocket, and take input, signals and sizes from it."""
    request, services = call.request, call.services
    if ACCEPT_KEY not in request.scope:
        raise ProblemError(
            "bad-request",
            "cannot attach: open this address as a WebSocket, with GET over HTTP/1.1, the headers "
            f"Connection: Upgrade and Upgrade: websocket, and Sec-WebSocket-Version: {VERSION}",
            headers={"Sec-WebSocket-Version": VERSION},
        )
    session = getattr(request.state, "session", None)

    def is_allowed() -> bool:
        return session is None or services.sessions.is_valid(session)

    attached = await services.attached_clients.attach(
        call.command_id, call.query.after, request.url.path, is_allowed
    )
    return WebSocketResponse(attached.serve)
