"""The route of a command's output as raw bytes: all of it, a range, its tail, or live."""

import re
from collections.abc import AsyncIterator
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response

from scriptservice.errors import (
    DamagedOutputError,
    FieldError,
    UnknownCommandError,
    ValidationError,
)
from scriptservice.model import Stream
from scriptservice.server.http.head_requests import HEAD_KEY
from scriptservice.server.http.problem_responses import ProblemError
from scriptservice.server.http.streaming import StreamCutError, StreamResponse
from scriptservice.server.output.output_service import OutputRange
from scriptservice.server.routes.request_models import OutputQuery
from scriptservice.server.routes.route import Call

BYTES = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"

_RANGE = re.compile(r"bytes=\s*(\d*)-(\d*)\s*", re.IGNORECASE)


async def get_output(call: Call[OutputQuery, None]) -> Response:
    """Return output as raw bytes."""
    request, outputs = call.request, call.services.outputs
    window = await _window(call)
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
            window = OutputRange(
                window.extent, window.stream, start, window.start + last + 1, window.size
            )
            headers["Output-Offset"] = str(start)
            length, status = last - first + 1, 206
        content = outputs.read(window)
    elif call.query.follow:
        content, length = outputs.follow(call.command_id, window), None
    else:
        content = outputs.read(window)
    if length is not None:
        headers["Content-Length"] = str(length)
    if request.scope.get(HEAD_KEY):
        response = Response(None, status, headers=headers, media_type=media_type)
        if length is None:  # Starlette has set the length 0, but a GET request may get more bytes
            del response.headers["content-length"]
        return response
    if length is not None:
        content = await _begun(call.command_id, content)
    return StreamResponse(content, status_code=status, headers=headers, media_type=media_type)


async def _begun(command_id: str, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Read the first part of stored output, so that an error there is answered with a problem.

    After the headers, only an early end of the response could tell the client of an error.

    Raises:
        DamagedOutputError: the first part is damaged.
        UnknownCommandError: the command was deleted just now.
    """
    try:
        first = await anext(content, b"")
    except StreamCutError as error:
        if isinstance(error.__cause__, DamagedOutputError):
            raise error.__cause__ from None
        raise UnknownCommandError(command_id) from None
    return _continued(first, content)


async def _continued(first: bytes, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in content:
        yield part


async def _window(call: Call[OutputQuery, None]) -> OutputRange:
    """Return the range of output that the query asks for.

    Raises:
        UnknownCommandError: there is no command with this id.
        ValidationError: the query asks for both a tail and a range.
    """
    query, outputs = call.query, call.services.outputs
    stream = Stream(query.stream)
    if query.tail is None:
        return await outputs.range_from(
            call.command_id, stream, offset=query.offset or 0, limit=query.limit
        )
    if query.offset is not None or query.limit is not None:
        message = "cannot be combined with offset or limit"
        raise ValidationError(FieldError("tail", message))
    count = int(query.tail.removesuffix("l"))
    lines = query.tail.endswith("l")
    return await outputs.tail(call.command_id, stream, count, lines=lines)


def _wants_text(accept: str) -> bool:
    """Return whether a client prefers text to bytes, according to its Accept header."""
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
    """Return the offsets of the first and the last byte that a Range header asks for.

    A malformed range, several ranges and a conditional range are ignored, as HTTP allows.

    Args:
        request: the request.
        length: number of bytes of the output without the range.

    Returns:
        The two offsets; None to send all bytes.

    Raises:
        ProblemError: the range lies outside the output.
    """
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if request.scope.get(HEAD_KEY):  # HTTP defines ranges only for GET
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
    """Convert digits to a number; use only the first 19 digits after leading zeros.

    No output has a size of more than 19 digits. Python refuses to convert thousands of digits.
    """
    return int(digits.lstrip("0")[:19] or "0")
