"""Decodes what a request says: its query and its body, each as its route declares it.

A route's declaration has one decoder for the query and one for the body. They validate as well;
what they refuse is answered with a problem before the handler is called.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel
from pydantic import ValidationError as PydanticValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request

from scriptservice.server.http.body_budget import BodyBudget, BodyShare, is_large
from scriptservice.server.http.problem_responses import ProblemError
from scriptservice.server.routes.request_models import field_errors, single_and_repeated

JSON = "application/json"

JSON_VALUES = 250_000
"""The most values in a JSON body; that is more words than Linux passes to any program."""

JSON_FIELDS = 1000
"""The most fields of its outermost object. Each unknown one is an error of some 2 KB."""

# A thousand commas outside of strings. The quantifiers are possessive: the positions to come back
# to would take more memory than the body.
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
            ValidationError: it is invalid.
        """


class BodyDecoder(Protocol[Decoded_co]):
    """Decodes the body of a request."""

    async def decode(self, request: Request, budget: BodyBudget) -> Decoded_co:
        """Return the decoded body.

        Raises:
            ProblemError: it cannot be read.
            ValidationError: it is invalid.
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
    """A query that the handler decodes itself, or that is for the page in the browser.

    Attributes:
        parameters: returns its parameters, for OpenAPI; None if there are none.
    """

    parameters: Callable[[], list[dict[str, Any]]] | None = None

    def decode(self, request: Request) -> None:
        """See `QueryDecoder`."""


def decode_query(request: Request, model: type[Model]) -> Model:
    """Return the query as a model.

    Raises:
        ValidationError: a parameter is unknown, repeated or invalid.
    """
    fields = single_and_repeated(request.query_params.multi_items())
    try:
        return model.model_validate(fields)
    except PydanticValidationError as error:
        raise field_errors(error) from error


# Bodies


class NoBody:
    """No body; what a client sends all the same is not read."""

    async def decode(self, request: Request, budget: BodyBudget) -> None:
        """See `BodyDecoder`."""


@dataclass(frozen=True, slots=True)
class RawBody:
    """A body as bytes.

    Attributes:
        limit_bytes: its largest size.
    """

    limit_bytes: int

    async def decode(self, request: Request, budget: BodyBudget) -> bytes:
        """See `BodyDecoder`."""
        return await read_body(request, budget, self.limit_bytes)


@dataclass(frozen=True, slots=True)
class UndecodedBody:
    """A body that the handler decodes itself, by its content type.

    Attributes:
        content: by media type, a model or a JSON schema; for OpenAPI.
    """

    content: Mapping[str, type[BaseModel] | Mapping[str, Any]]

    async def decode(self, request: Request, budget: BodyBudget) -> None:
        """See `BodyDecoder`."""


@dataclass(frozen=True, slots=True)
class JsonBody(Generic[Model]):
    """A JSON body that a model describes.

    Attributes:
        model: describes it.
        limit_bytes: its largest size.
        required: whether there has to be a body; without one, the model's defaults apply.
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
            raise ProblemError("unsupported-media-type", f"cannot take this content type: {send}")
        raw = raw or await read_body(request, budget, self.limit_bytes)
        return decode_json(raw, self.model)


def content_type(request: Request) -> tuple[str, str | None]:
    """Return the media type of the body, in lower case, and its charset if it has one."""
    media_type, *parameters = request.headers.get("content-type", "").lower().split(";")
    charset = None
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name == "charset":
            charset = value.strip('"')
    return media_type.strip(), charset


async def read_body(request: Request, budget: BodyBudget, limit_bytes: int) -> bytes:
    """Return the body; a large one waits for room in the budget.

    The room is given back by `release_body`.

    Raises:
        ProblemError: the body has more than ``limit_bytes``, and the rest is not kept; or there
            was no room for too long; or the client left.
    """
    length = request.headers.get("content-length", "")
    size = int(length) if length.isdecimal() else 0
    if size > limit_bytes:
        raise _too_large(limit_bytes)
    if is_large(size):
        await _take_room(request, budget, size)
    # BytesIO returns the bytes that were written to it without copying them. A bytearray would be
    # copied by the parser.
    data = BytesIO()
    try:
        async for part in request.stream():
            size = data.tell() + len(part)
            if size > limit_bytes:
                raise _too_large(limit_bytes)
            if is_large(size) and _share(request) is None:
                # The length is not known. Take all that the body may need at once: two bodies
                # that grew and waited for each other would wait for ever.
                await _take_room(request, budget, limit_bytes)
            data.write(part)
    except ClientDisconnect as error:
        # Nobody reads this answer. Half a body is not acted upon.
        raise ProblemError("bad-request", "cannot read the request: it ended early") from error
    if (share := _share(request)) is not None:
        share.shrink(data.tell())
    return data.getvalue()


def _too_large(limit_bytes: int) -> ProblemError:
    # The connection stays open: uvicorn drops the rest as it comes. If it were closed with bytes
    # unread it would be reset, and a client that is still sending would lose this answer.
    return ProblemError("too-large", f"cannot take a body of more than {limit_bytes} bytes")


async def _take_room(request: Request, budget: BodyBudget, size: int) -> None:
    request.state.body_share = await budget.take(size)


def _share(request: Request) -> BodyShare | None:
    return getattr(request.state, "body_share", None)


def has_room(request: Request) -> bool:
    """Return whether the request has a large body, which holds room in the budget."""
    return _share(request) is not None


def release_body(request: Request) -> None:
    """Give back the room of a large body, once nothing of it is in memory any more."""
    if (share := _share(request)) is not None:
        share.release()


def decode_json(raw: bytes, model: type[Model]) -> Model:
    """Return a JSON body as a model.

    Raises:
        ProblemError: it is not JSON, or has too many values.
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
    """Refuse JSON whose values would take many times its own size in memory.

    Raises:
        ProblemError: it has more than `JSON_VALUES` values or `JSON_FIELDS` fields.
    """
    if raw.count(b",") < JSON_FIELDS:
        return  # nearly every body; commas inside a script are counted as well
    commas = end = 0
    while (match := _THOUSAND_COMMAS.match(raw, end)) and commas < JSON_VALUES:
        commas, end = commas + JSON_FIELDS, match.end()
    if JSON_FIELDS <= commas < JSON_VALUES:
        try:
            outermost = from_json(raw)
        except ValueError:
            return  # the validation says what is wrong
        if not isinstance(outermost, dict) or len(outermost) < JSON_FIELDS:
            return
    if commas:
        detail = f"cannot take JSON of more than {JSON_VALUES} values or {JSON_FIELDS} fields"
        raise ProblemError("too-large", detail)
