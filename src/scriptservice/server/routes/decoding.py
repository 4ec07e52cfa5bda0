"""Decodes the query and the body of a request, as the declaration of its route says.

A route's declaration has one decoder for the query and one decoder for the body. The decoders also
validate. If a decoder refuses a request, the answer is a problem and the handler is not called.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Generic, Protocol, TypeVar, cast

from pydantic import BaseModel
from pydantic import ValidationError as PydanticValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request

from scriptservice.server.http.body_budget import BodyBudget, BodyShare, is_large
from scriptservice.server.http.problem_responses import ProblemError
from scriptservice.server.routes.request_models import field_errors, single_and_repeated

JSON = "application/json"

JSON_VALUES = 250_000
"""Largest number of values in a JSON body. No submission needs more values, because Linux passes
fewer arguments and variables than that to a program."""

JSON_FIELDS = 1000
"""Largest number of fields in a body's outermost object. Each unknown field costs about 2 KB of
memory."""

_SHARE = "scriptservice.body_share"
"""The key of the request's share of the budget in its ASGI scope."""

# Matches a thousand commas outside of strings. The quantifiers are possessive. With other
# quantifiers, the search would remember the positions to which it may go back, and these would take
# more memory than the body.
_THOUSAND_COMMAS = re.compile(
    rb'(?:[^",]*+(?:"(?:[^"\\]++|\\.)*+"?+[^",]*+)*+,){%d}+' % JSON_FIELDS, re.DOTALL
)

Model = TypeVar("Model", bound=BaseModel)
Decoded_co = TypeVar("Decoded_co", covariant=True)


class QueryDecoder(Protocol[Decoded_co]):
    """Decodes the query of a request."""

    def decode(self, request: Request) -> Decoded_co:
        """Return the decoded query.

        Raises:
            ValidationError: the query is invalid.
        """


class BodyDecoder(Protocol[Decoded_co]):
    """Decodes the body of a request."""

    async def decode(self, request: Request, budget: BodyBudget) -> Decoded_co:
        """Return the decoded body.

        Raises:
            ProblemError: the body cannot be read.
            ValidationError: the body is invalid.
        """


# Queries


class _NoParameters(BaseModel, extra="forbid"):
    """A query without parameters."""


@dataclass(frozen=True, slots=True)
class QueryModel(Generic[Model]):
    """A query that a model describes; unknown and repeated parameters are refused."""

    model: type[Model]

    def decode(self, request: Request) -> Model:
        """See `QueryDecoder`."""
        return decode_query(request, self.model)


class NoQuery:
    """A query that has to be empty."""

    def decode(self, request: Request) -> None:
        """See `QueryDecoder`."""
        if request.scope["query_string"]:
            decode_query(request, _NoParameters)


@dataclass(frozen=True, slots=True)
class UndecodedQuery:
    """A query that the handler decodes itself, or that only the page in the browser uses.

    Attributes:
        parameters: a function that returns the query's parameters for OpenAPI; None if OpenAPI
            shows no parameters.
    """

    parameters: Callable[[], list[dict[str, Any]]] | None = None

    def decode(self, request: Request) -> None:
        """See `QueryDecoder`."""


def decode_query(request: Request, model: type[Model]) -> Model:
    """Return the query as a model.

    Raises:
        ValidationError: a parameter is unknown, repeated or invalid.
    """
    fields: dict[str, Any] = {}
    if request.scope["query_string"]:
        fields = single_and_repeated(request.query_params.multi_items())
    try:
        return model.model_validate(fields)
    except PydanticValidationError as error:
        raise field_errors(error) from error


# Bodies


class NoBody:
    """The decoder of a route without a body. If a client sends a body, the body is not read."""

    async def decode(self, request: Request, budget: BodyBudget) -> None:
        """See `BodyDecoder`."""


@dataclass(frozen=True, slots=True)
class RawBody:
    """A body as bytes, of any content type.

    Attributes:
        limit_bytes: largest size of the body.
        content: for OpenAPI, a JSON schema by media type; empty if OpenAPI shows no body.
    """

    limit_bytes: int
    content: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    async def decode(self, request: Request, budget: BodyBudget) -> bytes:
        """See `BodyDecoder`."""
        return await read_body(request, budget, self.limit_bytes)


@dataclass(frozen=True, slots=True)
class UndecodedBody:
    """A body that the handler decodes itself, by its content type.

    Attributes:
        content: for OpenAPI, a model or a JSON schema by media type.
    """

    content: Mapping[str, type[BaseModel] | Mapping[str, Any]]

    async def decode(self, request: Request, budget: BodyBudget) -> None:
        """See `BodyDecoder`."""


@dataclass(frozen=True, slots=True)
class JsonBody(Generic[Model]):
    """A JSON body that a model describes.

    Attributes:
        model: the model.
        limit_bytes: largest size of the body.
        required: whether a request must have a body. If False, the model's defaults apply to a
            request without a body.
    """

    model: type[Model]
    limit_bytes: int
    required: bool = True

    async def decode(self, request: Request, budget: BodyBudget) -> Model:
        """See `BodyDecoder`."""
        raw = b""
        if not self.required:
            raw = await read_body(request, budget, self.limit_bytes)
            if not raw:
                return self.model()
        if content_type(request)[0] != JSON:
            send = "send application/json" + ("" if self.required else ", or no body")
            raise ProblemError("unsupported-media-type", f"unsupported content type: {send}")
        raw = raw or await read_body(request, budget, self.limit_bytes)
        return decode_json(raw, self.model)


def content_type(request: Request) -> tuple[str, str | None]:
    """Return the media type of the body in lower case, and the body's charset or None."""
    media_type, *parameters = request.headers.get("content-type", "").lower().split(";")
    charset = None
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name == "charset":
            charset = value.strip('"')
    return media_type.strip(), charset


async def read_body(request: Request, budget: BodyBudget, limit_bytes: int) -> bytes:
    """Return the body. If the body is large, first wait for room in the budget.

    `release_body` gives the room back.

    Raises:
        ProblemError: the body has more than ``limit_bytes``, the budget had no room in time, or the
            client left. If a body is too large, the rest of it is not kept in memory.
    """
    length = request.headers.get("content-length", "")
    size = int(length) if length.isdecimal() else 0
    if size > limit_bytes:
        raise _too_large(limit_bytes)
    if is_large(size):
        await _take_room(request, budget, size)
    # BytesIO can return its content as bytes without a copy. If `data` were a bytearray, the parser
    # would have to copy the body.
    data = BytesIO()
    try:
        async for part in request.stream():
            size = data.tell() + len(part)
            if size > limit_bytes:
                raise _too_large(limit_bytes)
            if is_large(size) and _share(request) is None:
                # The length of this body is not known, so take at once all the room that it may
                # need. If bodies took room in steps, two bodies could wait for each other for ever.
                await _take_room(request, budget, limit_bytes)
            data.write(part)
    except ClientDisconnect as error:
        # Nobody reads this answer, but an exception is needed: the handler must not act on a body
        # that is not complete.
        raise ProblemError(
            "bad-request", "the request ended before its body was complete"
        ) from error
    if (share := _share(request)) is not None:
        share.shrink(data.tell())
    return data.getvalue()


def _too_large(limit_bytes: int) -> ProblemError:
    # The connection stays open, and uvicorn drops the rest of the body as it arrives. If the
    # connection were closed with unread bytes, the kernel would reset it, and a client that is
    # still sending would lose this answer.
    return ProblemError("too-large", f"the body is larger than {limit_bytes} bytes")


async def _take_room(request: Request, budget: BodyBudget, size: int) -> None:
    request.scope[_SHARE] = await budget.take(size)


def _share(request: Request) -> BodyShare | None:
    return cast("BodyShare | None", request.scope.get(_SHARE))


def has_room(request: Request) -> bool:
    """Return whether the request holds room in the budget, because its body is large."""
    return _share(request) is not None


def release_body(request: Request) -> None:
    """Give back the room of a large body; call this once the body is no longer in memory."""
    if (share := _share(request)) is not None:
        share.release()


def decode_json(raw: bytes, model: type[Model]) -> Model:
    """Return a JSON body as a model.

    Raises:
        ProblemError: the body is not JSON, or has too many values.
        ValidationError: a field is unknown or invalid.
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
    """Refuse JSON with too many values. Such values need much more memory than the JSON text.

    Raises:
        ProblemError: the body has more than `JSON_VALUES` values or `JSON_FIELDS` fields.
    """
    if raw.count(b",") < JSON_FIELDS:
        return  # this applies to nearly every body, although `count` includes commas in strings
    commas = end = 0
    while (match := _THOUSAND_COMMAS.match(raw, end)) and commas < JSON_VALUES:
        commas, end = commas + JSON_FIELDS, match.end()
    if JSON_FIELDS <= commas < JSON_VALUES:
        try:
            outermost = from_json(raw)
        except ValueError:
            return  # this is not JSON, and the validation will report that
        if not isinstance(outermost, dict) or len(outermost) < JSON_FIELDS:
            return
    if commas:
        detail = f"the JSON has more than {JSON_VALUES} values or {JSON_FIELDS} fields"
        raise ProblemError("too-large", detail)
