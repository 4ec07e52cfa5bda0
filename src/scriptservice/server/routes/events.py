"""A command's event stream."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from starlette.responses import Response

from scriptservice.errors import FieldError, ValidationError
from scriptservice.server.http.head_requests import HEAD_KEY
from scriptservice.server.http.streaming import StreamResponse
from scriptservice.server.routes import openapi
from scriptservice.server.routes.request_models import EventsQuery
from scriptservice.server.routes.request_parts import events, query

router = APIRouter(prefix="/v1/commands", tags=["events"])

EVENT_STREAM = "text/event-stream"
LAST_EVENT_ID = "Last-Event-ID"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_LONGEST_ID = 19


@router.get("/{command_id}/events", **openapi.EVENTS)
async def get_events(request: Request, command_id: str) -> Response:
    """Stream a command's status, output and end, live and from any position."""
    after, asked_by = _position(request)
    content: AsyncIterator[bytes] = await events(request).stream(command_id, after, asked_by)
    if request.scope.get(HEAD_KEY):
        return Response(None, headers=_HEADERS, media_type=EVENT_STREAM)
    return StreamResponse(content, status_code=200, headers=_HEADERS, media_type=EVENT_STREAM)


def _position(request: Request) -> tuple[int, str]:
    """Return where to begin, behind the last event of a broken stream or as asked, and who says so.

    Raises:
        ValidationError: it is no position.
    """
    asked = query(request, EventsQuery)
    last = request.headers.getlist(LAST_EVENT_ID)
    if not last:
        return asked.after, "after"
    text = last[0]
    if len(last) > 1 or not (text.isascii() and text.isdecimal() and len(text) <= _LONGEST_ID):
        raise ValidationError(FieldError(LAST_EVENT_ID, "must be a position"))
    return int(text), LAST_EVENT_ID
