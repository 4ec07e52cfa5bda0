"""What the routes need to know of a request: who asks, and what its query and body say."""

import asyncio
import hashlib
import re
from collections.abc import Coroutine
from io import BytesIO
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel
from pydantic import ValidationError as PydanticValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect

from scriptservice.errors import FieldError, ValidationError
from scriptservice.model import Origin, RequestKey, parse_traceparent
from scriptservice.server.commands.command_service import Commands
from scriptservice.server.http.body_budget import BodyBudget, BodyShare, is_large
from scriptservice.server.http.problem_responses import ProblemError
from scriptservice.server.output.event_stream import Events
from scriptservice.server.output.output_service import Outputs
from scriptservice.server.routes.request_models import WaitQuery, field_errors, single_and_repeated

IDEMPOTENCY_KEY = "Idempotency-Key"
TRACEPARENT = "traceparent"

JSON_VALUES = 250_000
"""Of a JSON body; more words than Linux hands to any program."""

JSON_FIELDS = 1000
"""Of its outermost object: each that is not known is an error, and an error costs some 2 KB."""

# As many commas outside of strings. Possessive: nothing is kept to come back to, which would take
# more memory than the body.
_THOUSAND_COMMAS = re.compile(
    rb'(?:[^",]*+(?:"(?:[^"\\]++|\\.)*+"?+[^",]*+)*+,){%d}+' % JSON_FIELDS, re.DOTALL
)

Body = TypeVar("Body", bound=BaseModel)
Result = TypeVar("Result")


class _NoParameters(BaseModel, extra="forbid"):
    """A query that must be empty."""


def service(request: Request) -> Commands:
    """Return the service's verbs."""
    commands: Commands = request.app.state.commands
    return commands


def outputs(request: Request) -> Outputs:
    """Return the output of the service's commands."""
    found: Outputs = request.app.state.outputs
    return found


def events(request: Request) -> Events:
    """Return the event streams of the service's commands."""
    found: Events = request.app.state.events
    return found


def asker(request: Request) -> str:
    """Return the name of the token that came with the request."""
    name: str = request.state.token.name
    return name


def origin(request: Request, raw: bytes) -> Origin:
    """Return where a submission comes from.

    Args:
        request: that brought it.
        raw: its body.

    Raises:
        ValidationError: its Idempotency-Key is no good.
    """
    given = request.headers.getlist(TRACEPARENT)
    # One that is malformed, or several, is no trace: the standard says to go on without.
    trace = parse_traceparent(given[0]) if len(given) == 1 else None
    return Origin(asker(request), request_key(request, raw), trace)


def query(request: Request, model: type[Body]) -> Body:
    """Return the query as a model.

    Raises:
        ValidationError: a parameter is unknown, repeated, or no good.
    """
    fields = single_and_repeated(request.query_params.multi_items())
    try:
        return model.model_validate(fields)
    except PydanticValidationError as error:
        raise field_errors(error) from error


def no_query(request: Request) -> None:
    """Refuse any query.

    Raises:
        ValidationError: there is one.
    """
    if request.scope["query_string"]:
        query(request, _NoParameters)


def wait_seconds(request: Request) -> float | None:
    """Return how long the answer may be held, None for not at all; no other parameter is taken.

    Raises:
        ValidationError: it is no number from 0 to 60, or there is another parameter.
    """
    return query(request, WaitQuery).wait if request.scope["query_string"] else None


def checked_wait(text: str | None) -> float | None:
    """Return a ``wait`` parameter as seconds, None for None.

    Raises:
        ValidationError: it is no number from 0 to 60.
    """
    try:
        return WaitQuery.model_validate({"wait": text}).wait
    except PydanticValidationError as error:
        raise field_errors(error) from error


def request_key(request: Request, raw: bytes) -> RequestKey | None:
    """Return what names a request, from its Idempotency-Key; None if it has none.

    Args:
        request: whose method, path, query except ``wait`` and content type count.
        raw: its body, which counts too.

    Raises:
        ValidationError: the key is empty, too long, or there are several.
    """
    given = request.headers.getlist(IDEMPOTENCY_KEY)
    if not given:
        return None
    if len(given) > 1 or not 1 <= len(given[0]) <= 255:
        raise ValidationError(FieldError(IDEMPOTENCY_KEY, "must be one key of 1 to 255 characters"))
    pairs = [pair for pair in request.query_params.multi_items() if pair[0] != "wait"]
    said = repr((request.method, request.url.path, pairs, request.headers.get("content-type", "")))
    fingerprint = hashlib.sha256(said.encode() + b"\0")
    fingerprint.update(raw)
    return RequestKey(asker(request), given[0], fingerprint.digest())


async def body(request: Request, limit: int) -> bytes:
    """Return the body; a large one waits for room, which `release_body` gives back.

    Args:
        request: whose.
        limit: in bytes.

    Raises:
        ProblemError: it has more than ``limit`` bytes, the rest is not kept; or there is no room.
    """
    length = request.headers.get("content-length", "")
    size = int(length) if length.isdecimal() else 0
    if size > limit:
        raise _too_large(limit)
    if is_large(size):
        await _take_room(request, size)
    # Of bytes that were written here nothing is copied at the end; a bytearray would be, by whoever
    # parses it.
    data = BytesIO()
    try:
        async for part in request.stream():
            size = data.tell() + len(part)
            if size > limit:
                raise _too_large(limit)
            if is_large(size) and _share(request) is None:
                # How long it will be is not said. All that it may need at once: two that grow and
                # wait for each other would wait for ever.
                await _take_room(request, limit)
            data.write(part)
    except ClientDisconnect as error:
        # Nobody reads this answer; the half that came is not acted upon.
        raise ProblemError("bad-request", "cannot read the request: it ended early") from error
    if (share := _share(request)) is not None:
        share.shrink(data.tell())
    return data.getvalue()


async def _take_room(request: Request, size: int) -> None:
    budget: BodyBudget = request.app.state.bodies
    request.state.body_share = await budget.take(size)


def _share(request: Request) -> BodyShare | None:
    return getattr(request.state, "body_share", None)


def has_room(request: Request) -> bool:
    """Return whether the body is a large one that has room in the budget."""
    return _share(request) is not None


def release_body(request: Request) -> None:
    """Give back the room of a large body: nothing of it is in memory any more."""
    if (share := _share(request)) is not None:
        share.release()


async def while_client_stays(request: Request, work: Coroutine[None, None, Result]) -> Result:
    """Return what some work leads to; it is cancelled as soon as its client goes.

    Args:
        request: without a body, or with one that has been read.
        work: nothing that has to be brought to its end.

    Raises:
        ProblemError: the client has gone; nobody reads the answer.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_client_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ProblemError("bad-request", "cannot answer the request: its client has gone")
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _too_large(limit: int) -> ProblemError:
    # The connection stays: uvicorn drops the rest as it comes. Closed with bytes unread it would
    # be reset, and a client that is still sending would lose this answer.
    return ProblemError("too-large", f"cannot take a body of more than {limit} bytes")


def json_body(raw: bytes, model: type[Body]) -> Body:
    """Return a JSON body as a model.

    Raises:
        ProblemError: it is not JSON, or consists of too many values.
        ValidationError: it says something that cannot be.
    """
    _refuse_many_values(raw)
    try:
        return model.model_validate_json(raw)
    except PydanticValidationError as error:
        if any(entry["type"] == "json_invalid" for entry in error.errors(include_url=False)):
            detail = f"cannot read the body as JSON: {error.errors()[0]['ctx']['error']}"
            raise ProblemError("bad-request", detail) from error
        raise field_errors(error) from error


def _refuse_many_values(raw: bytes) -> None:
    """Refuse JSON whose parts would take many times its own size in memory.

    Raises:
        ProblemError: it has more than `JSON_VALUES` or `JSON_FIELDS`.
    """
    if raw.count(b",") < JSON_FIELDS:
        return  # nearly every body; those in a script count as well
    commas = end = 0
    while (match := _THOUSAND_COMMAS.match(raw, end)) and commas < JSON_VALUES:
        commas, end = commas + JSON_FIELDS, match.end()
    if JSON_FIELDS <= commas < JSON_VALUES:
        try:
            outermost = from_json(raw)
        except ValueError:
            return  # whoever validates it says so
        if not isinstance(outermost, dict) or len(outermost) < JSON_FIELDS:
            return
    if commas:
        detail = f"cannot take JSON of more than {JSON_VALUES} values or {JSON_FIELDS} fields"
        raise ProblemError("too-large", detail)


def content_type(request: Request) -> tuple[str, str | None]:
    """Return the media type of the body, in lower case, and its charset if it says one."""
    media_type, *parameters = request.headers.get("content-type", "").lower().split(";")
    charset = None
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name == "charset":
            charset = value.strip('"')
    return media_type.strip(), charset
