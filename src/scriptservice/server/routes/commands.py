"""The routes that submit, list, read, stop, repeat and delete commands."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from pydantic import ValidationError as PydanticValidationError
from starlette.requests import Request
from starlette.responses import Response

from scriptservice.errors import FieldError, ValidationError
from scriptservice.model import (
    Command,
    Filter,
    IdempotencyKey,
    Origin,
    parse_traceparent,
)
from scriptservice.server.commands.command_service import SubmitResult
from scriptservice.server.http.command_json import command_view, to_json
from scriptservice.server.http.problem_responses import ProblemError
from scriptservice.server.routes.decoding import (
    JSON,
    content_type,
    decode_json,
    decode_query,
    read_body,
    release_body,
)
from scriptservice.server.routes.request_models import (
    JSON_BODY_BYTES,
    SCRIPT_BYTES,
    ListQuery,
    StopBody,
    SubmitBody,
    WaitQuery,
    field_errors,
    key_and_value,
    keys_and_values,
    list_moment,
    single_and_repeated,
    terminal_size,
)
from scriptservice.server.routes.route import Call

SCRIPT_TYPES = ("text/x-shellscript", "text/plain")
IDEMPOTENCY_KEY = "Idempotency-Key"
TRACEPARENT = "traceparent"
ITEMS_AT_ONCE = 50
"""Number of items of a list that are encoded as JSON before other requests get a turn. The encoding
of these items takes about 2 ms."""

_TEXT_CHARSETS = (None, "utf-8", "utf8", "us-ascii")

Result = TypeVar("Result")


# Submitting


async def submit(call: Call[None, None]) -> Response:
    """Submit a script: as a field of JSON, or as the body itself."""
    request = call.request
    bodies = call.services.bodies
    media_type, charset = content_type(request)
    if media_type == JSON:
        seconds = decode_query(request, WaitQuery).wait
        raw = await read_body(request, bodies, JSON_BODY_BYTES)
        submission = decode_json(raw, SubmitBody).submission(call.services.output_limit_bytes)
    elif media_type in SCRIPT_TYPES and charset in _TEXT_CHARSETS:
        raw = await read_body(request, bodies, SCRIPT_BYTES)
        body, seconds = _raw_submission(request, raw)
        submission = body.submission(call.services.output_limit_bytes)
    else:
        detail = (
            "unsupported content type: send application/json, or the script itself in "
            "UTF-8: curl -H 'Content-Type: text/plain' --data-binary @job.sh"
        )
        raise ProblemError("unsupported-media-type", detail)
    origin = _origin(call, raw)
    del raw  # the body may have 20 MiB
    submitted = await call.services.commands.submit(submission, origin)
    return await _submitted_response(call, submitted, seconds)


def _raw_submission(request: Request, raw: bytes) -> tuple[SubmitBody, float | None]:
    """Decode a submission whose body is the script and whose query has all other fields.

    Returns:
        The fields, and how many seconds to wait for the command's end; None for no wait.
    """
    fields = single_and_repeated(request.query_params.multi_items())
    for name in ("script", "labels", "args"):
        if name in fields:
            raise ValidationError(FieldError(name, "is not a known field"))
    seconds = _wait_seconds(fields.pop("wait", None))
    try:
        fields["script"] = raw.decode()
    except UnicodeDecodeError as error:
        raise ValidationError(FieldError("script", "must be UTF-8")) from error
    fields["labels"] = keys_and_values("label", fields.pop("label", []))
    fields["env"] = keys_and_values("env", fields.pop("env", []))
    fields["args"] = fields.pop("arg", [])
    if "pty" in fields:
        fields["pty"] = terminal_size(fields["pty"])
    if fields.get("output_limit_bytes") == "null":
        fields["output_limit_bytes"] = None
    try:
        return SubmitBody.model_validate(fields, strict=False), seconds
    except PydanticValidationError as error:
        raise field_errors(error) from error


def _wait_seconds(text: str | None) -> float | None:
    """Return a ``wait`` parameter as seconds.

    Args:
        text: value of the parameter. If it is None, None is returned.

    Raises:
        ValidationError: the text is not a number from 0 to 60.
    """
    try:
        return WaitQuery.model_validate({"wait": text}).wait
    except PydanticValidationError as error:
        raise field_errors(error) from error


def _origin(call: Call[Any, Any], raw: bytes) -> Origin:
    """Return where a submission comes from.

    Args:
        call: the request that submits a command.
        raw: the request's body.

    Raises:
        ValidationError: the request's Idempotency-Key is invalid.
    """
    given = call.request.headers.getlist(TRACEPARENT)
    # If the header is malformed or repeated, the standard says to continue without a trace.
    trace = parse_traceparent(given[0]) if len(given) == 1 else None
    return Origin(call.token_name, _request_key(call, raw), trace)


def _request_key(call: Call[Any, Any], raw: bytes) -> IdempotencyKey | None:
    """Return a request's Idempotency-Key with the request's fingerprint; None if it has no key.

    Two requests have the same fingerprint if their method, path, query without ``wait``, content
    type and body are the same.

    Args:
        call: the request.
        raw: the request's body.

    Raises:
        ValidationError: the key is empty, too long or repeated.
    """
    request = call.request
    given = request.headers.getlist(IDEMPOTENCY_KEY)
    if not given:
        return None
    if len(given) > 1 or not 1 <= len(given[0]) <= 255:
        raise ValidationError(FieldError(IDEMPOTENCY_KEY, "must be one key of 1 to 255 characters"))
    pairs = [pair for pair in request.query_params.multi_items() if pair[0] != "wait"]
    said = repr((request.method, request.url.path, pairs, request.headers.get("content-type", "")))
    fingerprint = hashlib.sha256(said.encode() + b"\0")
    fingerprint.update(raw)
    return IdempotencyKey(call.token_name, given[0], fingerprint.digest())


async def _submitted_response(
    call: Call[Any, Any], submitted: SubmitResult, wait_seconds: float | None
) -> Response:
    command = submitted.command
    if wait_seconds is not None:
        release_body(call.request)
        command = await call.services.commands.wait_until_finished(command, wait_seconds)
    headers = {"Location": f"/v1/commands/{command.id}"}
    if submitted.repeated:
        headers["Idempotent-Replayed"] = "true"
    return Response(to_json(command_view(command)), 201, headers=headers, media_type=JSON)


async def rerun_command(call: Call[WaitQuery, bytes]) -> Response:
    """Submit the same again."""
    origin = _origin(call, call.body)
    submitted = await call.services.commands.rerun(call.command_id, origin)
    return await _submitted_response(call, submitted, call.query.wait)


# Reading


async def list_commands(call: Call[ListQuery, None]) -> Response:
    """List commands, newest first."""
    query = call.query
    wanted = Filter(
        statuses=tuple(dict.fromkeys(query.status)),
        labels=tuple(key_and_value("label", text) for text in query.label),
        text=query.q,
        host=query.host,
        created_after=list_moment("created_after", query.created_after),
        created_before=list_moment("created_before", query.created_before),
        id_part=None if query.id is None else query.id.lower(),
    )
    before = None if query.cursor is None else _cursor_number(query.cursor, wanted)
    listing = call.services.commands.page(wanted, query.limit, before)
    page = await while_client_stays(call.request, listing)
    cursor = None if page.before is None else _cursor(page.before, wanted)
    return Response(await _page_json(page.items, cursor), media_type=JSON)


async def while_client_stays(request: Request, work: Coroutine[None, None, Result]) -> Result:
    """Do some work and return its result; cancel the work as soon as the client leaves.

    Args:
        request: the client's request. It has no body, or its body has been read.
        work: the work; cancelling it must be safe.

    Raises:
        ProblemError: the client has left. Nobody reads the answer.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_client_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ProblemError("bad-request", "cannot answer the request: its client has left")
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _page_json(items: list[Command], cursor: str | None) -> bytes:
    """Return a page as JSON; let other requests run after every `ITEMS_AT_ONCE` items."""
    parts: list[bytes] = []
    for start in range(0, len(items), ITEMS_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        some = items[start : start + ITEMS_AT_ONCE]
        parts.append(to_json([command_view(command, item=True) for command in some])[1:-1])
    return b'{"items":[%s],"next_cursor":%s}' % (b",".join(parts), to_json(cursor))


def _fingerprint(wanted: Filter) -> str:
    # Earlier releases could not filter by a part of an id. A filter without a part of an id has the
    # same fingerprint as in those releases. So a client that reads a list page by page can continue
    # after an upgrade.
    text = repr(wanted)
    if wanted.id_part is None:
        text = text.removesuffix(", id_part=None)") + ")"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cursor(number: int, wanted: Filter) -> str:
    text = json.dumps([number, _fingerprint(wanted)])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _cursor_number(cursor: str, wanted: Filter) -> int:
    """Return the number in a cursor. The page has only commands with smaller numbers.

    Raises:
        ValidationError: the text is not a valid cursor, or the cursor belongs to other filters.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        number, fingerprint = json.loads(base64.urlsafe_b64decode(padded.encode()))
        valid = type(number) is int and 0 < number < 1 << 62
    except (ValueError, TypeError, RecursionError):
        number, fingerprint, valid = 0, "", False
    if not valid:
        raise ValidationError(FieldError("cursor", "is not a valid cursor"))
    if fingerprint != _fingerprint(wanted):
        raise ValidationError(FieldError("cursor", "belongs to other filters"))
    return int(number)


async def get_command(call: Call[WaitQuery, None]) -> Response:
    """Return one command, perhaps once it is finished."""
    command = await call.services.commands.get(call.command_id)
    if call.query.wait is not None and not command.status.final:
        command = await call.services.commands.wait_until_finished(command, call.query.wait)
    return _command_response(command)


def _command_response(command: Command, status: int = 200) -> Response:
    return Response(to_json(command_view(command)), status, media_type=JSON)


# Changing


async def stop_command(call: Call[None, StopBody]) -> Response:
    """Stop a command: signal, grace, SIGKILL of its whole tree."""
    command = await call.services.commands.stop(
        call.command_id, call.body.signal, call.body.grace_seconds
    )
    return _command_response(command, 202)


async def delete_command(call: Call[None, None]) -> Response:
    """Delete a finished command and its output."""
    await call.services.commands.delete(call.command_id)
    return Response(status_code=204)
