"""Output as raw bytes: whole, by range, its tail, or live."""

import re
from contextlib import suppress

from fastapi import APIRouter, Request
from starlette.responses import Response

from scriptservice.errors import FieldError, ValidationError
from scriptservice.model import Stream
from scriptservice.server.http.head_requests import HEAD_KEY
from scriptservice.server.http.problem_responses import ProblemError
from scriptservice.server.http.streaming import StreamResponse
from scriptservice.server.output.output_service import Window
from scriptservice.server.routes import openapi
from scriptservice.server.routes.request_models import OutputQuery
from scriptservice.server.routes.request_parts import outputs, query

router = APIRouter(prefix="/v1/commands", tags=["output"])

BYTES = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"

_RANGE = re.compile(r"bytes=\s*(\d*)-(\d*)\s*", re.IGNORECASE)


@router.get("/{command_id}/output", **openapi.OUTPUT)
async def get_output(request: Request, command_id: str) -> Response:
    """Return output as raw bytes."""
    asked = query(request, OutputQuery)
    window = await _window(request, command_id, asked)
    finished = window.extent.finished
    headers = {
        "Output-Offset": str(window.start),
        "Output-Size": str(window.size),
        "Output-Complete": "true" if finished else "false",
        "Cache-Control": "no-store",
    }
    media_type = TEXT if _wants_text(request.headers.get("accept", "")) else BYTES
    status = 200
    known = window.size if window.end is None else min(window.end, window.size)
    length: int | None = max(0, known - window.start)
    if finished:
        headers["Accept-Ranges"] = "bytes"
        if wanted := _range(request, length or 0):
            first, last = wanted
            headers["Content-Range"] = f"bytes {first}-{last}/{length}"
            start = window.start + first
            window = Window(
                window.extent, window.stream, start, window.start + last + 1, window.size
            )
            headers["Output-Offset"] = str(start)
            length, status = last - first + 1, 206
        content = outputs(request).read(window)
    elif asked.follow:
        content, length = outputs(request).follow(command_id, window), None
    else:
        content = outputs(request).read(window)
    if length is not None:
        headers["Content-Length"] = str(length)
    if request.scope.get(HEAD_KEY):
        response = Response(None, status, headers=headers, media_type=media_type)
        if length is None:  # starlette made it 0, which is not what a follow would send
            del response.headers["content-length"]
        return response
    return StreamResponse(content, status_code=status, headers=headers, media_type=media_type)


async def _window(request: Request, command_id: str, asked: OutputQuery) -> Window:
    stream = Stream(asked.stream)
    if asked.tail is None:
        return await outputs(request).window(
            command_id, stream, offset=asked.offset or 0, limit=asked.limit
        )
    if asked.offset is not None or asked.limit is not None:
        message = "cannot be together with offset or limit"
        raise ValidationError(FieldError("tail", message))
    count = int(asked.tail.removesuffix("l"))
    lines = asked.tail.endswith("l")
    return await outputs(request).tail(command_id, stream, count, lines=lines)


def _wants_text(accept: str) -> bool:
    """Whether a client asks for text and does not rather ask for bytes."""
    best: dict[str, float] = {}
    for part in accept.lower().split(","):
        media_range, *parameters = (piece.strip() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                with suppress(ValueError):
                    quality = float(parameter[2:])
        best[media_range] = quality
    text = max(best.get("text/plain", 0.0), best.get("text/*", 0.0))
    return text > best.get(BYTES, best.get("application/*", 0.0))


def _range(request: Request, length: int) -> tuple[int, int] | None:
    """Return the first and last byte that a Range header asks for, None for all.

    A range that is malformed, several, or conditional is not honoured, as HTTP allows.

    Raises:
        ProblemError: it lies outside.
    """
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if request.scope.get(HEAD_KEY):  # ranges are defined for GET alone
        return None
    if match is None or match.groups() == ("", "") or "if-range" in request.headers:
        return None
    first_text, last_text = match.groups()
    if not first_text:
        first, last = max(0, length - _number(last_text)), length - 1
        outside = _number(last_text) == 0 or length == 0
    else:
        first = _number(first_text)
        last = min(_number(last_text), length - 1) if last_text else length - 1
        if last_text and _number(last_text) < first:
            return None
        outside = first >= length
    if outside:
        raise ProblemError(
            "range-not-satisfiable",
            f"cannot send that range: there are {length} bytes",
            headers={"Content-Range": f"bytes */{length}"},
        )
    return first, last


def _number(digits: str) -> int:
    """Return a number of any length; Python refuses thousands of digits, no output is so long."""
    return int(digits.lstrip("0")[:19] or "0")
