"""Submitting, finding, stopping, repeating and deleting commands."""

import asyncio
import base64
import hashlib
import json

from fastapi import APIRouter, Request
from pydantic import ValidationError as PydanticValidationError
from starlette.responses import Response

from scriptservice.errors import FieldError, ValidationError
from scriptservice.model import Command, Filter, Submission
from scriptservice.server.commands.command_service import Submitted
from scriptservice.server.http.command_json import command_view, to_json
from scriptservice.server.http.problem_responses import ProblemError
from scriptservice.server.routes import openapi
from scriptservice.server.routes.request_models import (
    JSON_BODY_BYTES,
    SCRIPT_BYTES,
    ListQuery,
    StopBody,
    SubmitBody,
    field_errors,
    key_and_value,
    keys_and_values,
    list_moment,
    single_and_repeated,
)
from scriptservice.server.routes.request_parts import (
    body,
    checked_wait,
    content_type,
    json_body,
    no_query,
    origin,
    query,
    release_body,
    service,
    wait_seconds,
    while_client_stays,
)

router = APIRouter(prefix="/v1/commands", tags=["commands"])

JSON = "application/json"
SCRIPT_TYPES = ("text/x-shellscript", "text/plain")
STOP_BODY_BYTES = 64 << 10
ITEMS_AT_ONCE = 50
"""Items of a list that are made into JSON before others get a turn: about 2 ms."""

_TEXT_CHARSETS = (None, "utf-8", "utf8", "us-ascii")


def _command_response(command: Command, status: int = 200) -> Response:
    return Response(to_json(command_view(command)), status, media_type=JSON)


async def _submitted_response(
    request: Request, submitted: Submitted, wait_seconds: float | None
) -> Response:
    command = submitted.command
    if wait_seconds is not None:
        release_body(request)
        command = await service(request).finished(command, wait_seconds)
    headers = {"Location": f"/v1/commands/{command.id}"}
    if submitted.repeated:
        headers["Idempotent-Replayed"] = "true"
    return Response(to_json(command_view(command)), 201, headers=headers, media_type=JSON)


@router.post("", **openapi.SUBMIT)
async def submit(request: Request) -> Response:
    """Submit a script: as a field of JSON, or as the body itself."""
    media_type, charset = content_type(request)
    if media_type == JSON:
        seconds = wait_seconds(request)
        raw = await body(request, JSON_BODY_BYTES)
        submission = json_body(raw, SubmitBody).submission()
    elif media_type in SCRIPT_TYPES and charset in _TEXT_CHARSETS:
        raw = await body(request, SCRIPT_BYTES)
        submission, seconds = _raw_submission(request, raw)
    else:
        detail = (
            "cannot take this content type: send application/json, or the script itself in "
            "UTF-8: curl -H 'Content-Type: text/plain' --data-binary @job.sh"
        )
        raise ProblemError("unsupported-media-type", detail)
    asked = origin(request, raw)
    del raw  # it may have 20 MiB
    submitted = await service(request).submit(submission, asked)
    return await _submitted_response(request, submitted, seconds)


def _raw_submission(request: Request, raw: bytes) -> tuple[Submission, float | None]:
    """Return what a script as the body and its fields as query parameters ask for.

    Returns:
        That, and how many seconds to wait for its end, None for not at all.
    """
    fields = single_and_repeated(request.query_params.multi_items())
    for name in ("script", "labels", "args"):
        if name in fields:
            raise ValidationError(FieldError(name, "is not known"))
    seconds = checked_wait(fields.pop("wait", None))
    try:
        fields["script"] = raw.decode()
    except UnicodeDecodeError as error:
        raise ValidationError(FieldError("script", "must be UTF-8")) from error
    fields["labels"] = keys_and_values("label", fields.pop("label", []))
    fields["env"] = keys_and_values("env", fields.pop("env", []))
    fields["args"] = fields.pop("arg", [])
    try:
        return SubmitBody.model_validate(fields, strict=False).submission(), seconds
    except PydanticValidationError as error:
        raise field_errors(error) from error


@router.get("", **openapi.LIST)
async def list_commands(request: Request) -> Response:
    """List commands, newest first."""
    asked = query(request, ListQuery)
    wanted = Filter(
        statuses=tuple(dict.fromkeys(asked.status)),
        labels=tuple(key_and_value("label", text) for text in asked.label),
        text=asked.q,
        host=asked.host,
        created_after=list_moment("created_after", asked.created_after),
        created_before=list_moment("created_before", asked.created_before),
        id_part=None if asked.id is None else asked.id.lower(),
    )
    before = None if asked.cursor is None else _cursor_number(asked.cursor, wanted)
    page = await while_client_stays(request, service(request).page(wanted, asked.limit, before))
    cursor = None if page.before is None else _cursor(page.before, wanted)
    return Response(await _page_json(page.items, cursor), media_type=JSON)


async def _page_json(items: list[Command], cursor: str | None) -> bytes:
    """Return a page as JSON; others get a turn after every few items."""
    parts: list[bytes] = []
    for start in range(0, len(items), ITEMS_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        some = items[start : start + ITEMS_AT_ONCE]
        parts.append(to_json([command_view(command, item=True) for command in some])[1:-1])
    return b'{"items":[%s],"next_cursor":%s}' % (b",".join(parts), to_json(cursor))


def _fingerprint(wanted: Filter) -> str:
    # Filters without a part of an id say the same as in releases that do not know it: a client
    # that goes through a list goes on through an upgrade.
    text = repr(wanted)
    if wanted.id_part is None:
        text = text.removesuffix(", id_part=None)") + ")"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cursor(number: int, wanted: Filter) -> str:
    text = json.dumps([number, _fingerprint(wanted)])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _cursor_number(cursor: str, wanted: Filter) -> int:
    """Return the number before which a page begins.

    Raises:
        ValidationError: it is no cursor of ours, or one of other filters.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        number, fingerprint = json.loads(base64.urlsafe_b64decode(padded.encode()))
        valid = type(number) is int and 0 < number < 1 << 62
    except (ValueError, TypeError, RecursionError):
        number, fingerprint, valid = 0, "", False
    if not valid:
        raise ValidationError(FieldError("cursor", "is no cursor"))
    if fingerprint != _fingerprint(wanted):
        raise ValidationError(FieldError("cursor", "belongs to other filters"))
    return int(number)


@router.get("/{command_id}", **openapi.GET)
async def get_command(request: Request, command_id: str) -> Response:
    """Return one command, perhaps once it is finished."""
    seconds = wait_seconds(request)
    command = await service(request).get(command_id)
    if seconds is not None and not command.status.final:
        command = await service(request).finished(command, seconds)
    return _command_response(command)


@router.delete("/{command_id}", **openapi.DELETE)
async def delete_command(request: Request, command_id: str) -> Response:
    """Delete a finished command and its output."""
    no_query(request)
    await service(request).delete(command_id)
    return Response(status_code=204)


@router.post("/{command_id}/stop", **openapi.STOP)
async def stop_command(request: Request, command_id: str) -> Response:
    """Stop a command: signal, grace, SIGKILL of its whole tree."""
    no_query(request)
    asked = await _stop_body(request)
    command = await service(request).stop(command_id, asked.signal, asked.grace_seconds)
    return _command_response(command, 202)


async def _stop_body(request: Request) -> StopBody:
    raw = await body(request, STOP_BODY_BYTES)
    if not raw:
        return StopBody()
    if content_type(request)[0] != JSON:
        detail = "cannot take this content type: send application/json, or no body"
        raise ProblemError("unsupported-media-type", detail)
    return json_body(raw, StopBody)


@router.post("/{command_id}/rerun", **openapi.RERUN)
async def rerun_command(request: Request, command_id: str) -> Response:
    """Submit the same again."""
    seconds = wait_seconds(request)
    asked = origin(request, await body(request, STOP_BODY_BYTES))
    submitted = await service(request).rerun(command_id, asked)
    return await _submitted_response(request, submitted, seconds)
