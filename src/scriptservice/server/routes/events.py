"""The route of a command's event stream."""

from starlette.requests import Request
from starlette.responses import Response

from scriptservice.errors import FieldError, ValidationError
from scriptservice.server.http.head_requests import HEAD_KEY
from scriptservice.server.http.streaming import StreamResponse
from scriptservice.server.routes.request_models import EventsQuery
from scriptservice.server.routes.route import Call

EVENT_STREAM = "text/event-stream"
LAST_EVENT_ID = "Last-Event-ID"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_LONGEST_ID = 19


async def get_events(call: Call[EventsQuery, None]) -> Response:
    """Stream a command's status, output and end, from any position on, as they are stored."""
    after, field = _position(call.request, call.query)
    content = await call.services.events.stream(call.command_id, after, field)
    if call.request.scope.get(HEAD_KEY):
        return Response(None, headers=_HEADERS, media_type=EVENT_STREAM)
    return StreamResponse(content, status_code=200, headers=_HEADERS, media_type=EVENT_STREAM)


def _position(request: Request, query: EventsQuery) -> tuple[int, str]:
    """Return the position at which the stream begins, and the name of the field that gave it.

    When a browser reconnects after its stream has broken, it sends ``Last-Event-ID``. This header
    has precedence over the query.

    Raises:
        ValidationError: the header is not a position.
    """
    last = request.headers.getlist(LAST_EVENT_ID)
    if not last:
        return query.after, "after"
    text = last[0]
    if len(last) > 1 or not (text.isascii() and text.isdecimal() and len(text) <= _LONGEST_ID):
        raise ValidationError(FieldError(LAST_EVENT_ID, "must be a position"))
    return int(text), LAST_EVENT_ID
