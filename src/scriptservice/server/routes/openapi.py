"""What OpenAPI says of the routes: parameters, bodies, answers, from the models they use."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from scriptservice.server.access.page_sessions import COOKIE, SECURE_COOKIE
from scriptservice.server.http.problem_responses import MEDIA_TYPE, TITLES
from scriptservice.server.routes.request_models import (
    EventsQuery,
    ListQuery,
    OutputQuery,
    SignInBody,
    StopBody,
    SubmitBody,
    WaitQuery,
)
from scriptservice.server.routes.response_models import (
    Command,
    CommandEvent,
    CommandPage,
    Health,
    HostList,
    OutputEvent,
    Problem,
    Readiness,
    Session,
)
from scriptservice.version import __version__

Json = dict[str, Any]
Answers = dict[int | str, Json]

_MODELS = (
    Command,
    CommandEvent,
    CommandPage,
    Health,
    HostList,
    OutputEvent,
    Problem,
    Readiness,
    Session,
    SignInBody,
    StopBody,
    SubmitBody,
)
_REF = "#/components/schemas/{model}"


def _ref(model: type[BaseModel]) -> Json:
    return {"$ref": _REF.format(model=model.__name__)}


def _json(model: type[BaseModel]) -> Json:
    return {"application/json": {"schema": _ref(model)}}


_CONTENT_RANGE: Json = {"description": "of the answer, and its size", "schema": {"type": "string"}}


_ANYWHERE = ("bad-request", "forbidden", "host-not-allowed", "internal", "store-unavailable")
"""What every route may answer, whatever is asked: the door, and failures."""


def _problems(*kinds: str) -> Answers:
    """Return the answers for kinds of problems, by status."""
    answers: Answers = {}
    for kind in (*kinds, *_ANYWHERE):
        status, title = TITLES[kind]
        answer = answers.setdefault(
            status, {"description": title, "content": {MEDIA_TYPE: {"schema": _ref(Problem)}}}
        )
        if kind in ("store-unavailable", "too-many-requests"):
            answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
        if kind == "method-not-allowed":
            answer["headers"] = {"Allow": {"schema": {"type": "string"}}}
        if kind == "unauthenticated":
            answer["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
        if kind == "range-not-satisfiable":
            answer["headers"] = {"Content-Range": _CONTENT_RANGE}
    return answers


def _query(model: type[BaseModel]) -> list[Json]:
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return definitions[value["$ref"].rsplit("/", 1)[1]]
            return {name: resolved(inner) for name, inner in value.items()}
        return [resolved(inner) for inner in value] if isinstance(value, list) else value

    parameters = []
    for name, field in schema["properties"].items():
        field.pop("title", None)
        description = field.pop("description", "")
        choices = field.pop("anyOf", None)
        if choices:  # a parameter is absent rather than null
            field.update(next(choice for choice in choices if choice != {"type": "null"}))
            field.pop("default", None)
        parameters.append(
            {"name": name, "in": "query", "description": description, "schema": resolved(field)}
        )
    return parameters


_ID = {
    "name": "command_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
}
_MADE: Json = {
    "Location": {"description": "the command", "schema": {"type": "string"}},
    "Idempotent-Replayed": {
        "description": "true where an earlier request with this key made it",
        "schema": {"type": "string", "enum": ["true"]},
    },
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "names the request: sent again within a day it makes nothing new",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_SCRIPT_TYPES = ("text/x-shellscript", "text/plain")


def _route(
    *,
    status: int,
    answers: Answers,
    problems: Answers,
    parameters: list[Json] | None = None,
    body: Json | None = None,
    secured: bool = True,
) -> Json:
    extra: Json = {"parameters": parameters or []}
    if body:
        extra["requestBody"] = body
    if secured:
        extra["security"] = [{"token": []}, {"session": []}]
        problems = {**problems, **_problems("unauthenticated")}
    return {
        "status_code": status,
        "responses": {**answers, **problems},
        "openapi_extra": extra,
        "response_model": None,
    }


def _submit_query() -> list[Json]:
    """Return the fields of a submission as parameters, for a script that is the body itself."""
    names = {"labels": "label", "args": "arg"}
    parameters = []
    for parameter in _query(SubmitBody):
        name = parameter["name"]
        if name == "script":
            continue
        if name in ("labels", "env"):
            parameter["schema"] = {"type": "array", "items": {"type": "string"}}
            parameter["description"] += ": key=value; repeats"
        parameter["name"] = names.get(name, name)
        parameter["description"] += " (with a script as the body)"
        parameters.append(parameter)
    return parameters


_COMMAND: Json = {"description": "the command", "content": _json(Command)}
_BYTES: Json = {
    media_type: {"schema": {"type": "string", "format": "binary"}}
    for media_type in ("application/octet-stream", "text/plain; charset=utf-8")
}
_OUTPUT_HEADERS: Json = {
    "Output-Offset": {"description": "of the first byte sent", "schema": {"type": "integer"}},
    "Output-Size": {"description": "bytes known when it began", "schema": {"type": "integer"}},
    "Output-Complete": {"schema": {"type": "string", "enum": ["true", "false"]}},
}

SUBMIT = _route(
    status=201,
    parameters=[_KEY, *_query(WaitQuery), *_submit_query()],
    body={
        "required": True,
        "content": _json(SubmitBody)
        | {media_type: {"schema": {"type": "string"}} for media_type in _SCRIPT_TYPES},
    },
    answers={201: {**_COMMAND, "headers": _MADE}},
    problems=_problems(
        "gone",
        "too-large",
        "unsupported-media-type",
        "validation",
        "storage-full",
    ),
)
LIST = _route(
    status=200,
    parameters=_query(ListQuery),
    answers={200: {"description": "one page", "content": _json(CommandPage)}},
    problems=_problems("validation"),
)
GET = _route(
    status=200,
    parameters=[_ID, *_query(WaitQuery)],
    answers={200: _COMMAND},
    problems=_problems("not-found", "validation"),
)
DELETE = _route(
    status=204,
    parameters=[_ID],
    answers={204: {"description": "deleted"}},
    problems=_problems("not-found", "not-finished", "validation", "storage-full"),
)
STOP = _route(
    status=202,
    parameters=[_ID],
    body={"required": False, "content": _json(StopBody)},
    answers={202: _COMMAND},
    problems=_problems(
        "not-found",
        "already-finished",
        "too-large",
        "unsupported-media-type",
        "validation",
        "storage-full",
    ),
)
RERUN = _route(
    status=201,
    parameters=[_ID, _KEY, *_query(WaitQuery)],
    answers={201: {**_COMMAND, "headers": _MADE}},
    problems=_problems("not-found", "gone", "too-large", "validation", "storage-full"),
)
EVENTS = _route(
    status=200,
    parameters=[
        _ID,
        *_query(EventsQuery),
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "id of the last event of a broken stream: go on behind it",
            "schema": {"type": "string", "pattern": "^[0-9]{1,19}$"},
        },
    ],
    answers={
        200: {
            "description": "Server-Sent Events: status, output, end",
            "content": {
                "text/event-stream": {
                    "itemSchema": {
                        "type": "object",
                        "properties": {
                            "id": {"type": "string"},
                            "event": {"type": "string", "enum": ["status", "output", "end"]},
                            "data": {
                                "type": "string",
                                "contentMediaType": "application/json",
                                "contentSchema": {"anyOf": [_ref(CommandEvent), _ref(OutputEvent)]},
                            },
                            "retry": {"type": "integer"},
                        },
                    },
                }
            },
        }
    },
    problems=_problems("not-found", "validation"),
)
OUTPUT = _route(
    status=200,
    parameters=[
        _ID,
        *_query(OutputQuery),
        {
            "name": "Range",
            "in": "header",
            "description": "bytes=FIRST-LAST, of a finished command",
            "schema": {"type": "string"},
        },
    ],
    answers={
        200: {"description": "bytes", "content": _BYTES, "headers": _OUTPUT_HEADERS},
        206: {
            "description": "a range",
            "content": _BYTES,
            "headers": _OUTPUT_HEADERS | {"Content-Range": _CONTENT_RANGE},
        },
    },
    problems=_problems("not-found", "range-not-satisfiable", "validation"),
)
HOSTS = _route(
    status=200,
    answers={200: {"description": "all hosts", "content": _json(HostList)}},
    problems=_problems("validation"),
)
HEALTH = _route(
    status=200,
    secured=False,
    answers={200: {"description": "up", "content": _json(Health)}},
    problems=_problems("validation"),
)
READY = _route(
    status=200,
    secured=False,
    answers={200: {"description": "ready", "content": _json(Readiness)}},
    problems=_problems("validation"),
)
_SESSION: Json = {"description": "who is signed in", "content": _json(Session)}
_SET_COOKIE: Json = {"Set-Cookie": {"schema": {"type": "string"}}}
SIGN_IN = _route(
    status=200,
    secured=False,
    body={"required": True, "content": _json(SignInBody)},
    answers={200: {**_SESSION, "headers": _SET_COOKIE}},
    problems=_problems(
        "unauthenticated",
        "too-large",
        "unsupported-media-type",
        "validation",
        "too-many-requests",
        "storage-full",
    ),
)
GET_SESSION = _route(status=200, answers={200: _SESSION}, problems=_problems("validation"))
SIGN_OUT = _route(
    status=204,
    answers={204: {"description": "ended", "headers": _SET_COOKIE}},
    problems=_problems("validation", "storage-full"),
)
METRICS = _route(
    status=200,
    answers={
        200: {
            "description": "all metrics, for Prometheus",
            "content": {
                media_type: {"schema": {"type": "string"}}
                for media_type in ("text/plain", "application/openmetrics-text")
            },
        }
    },
    problems=_problems("validation"),
)
DOCUMENT = _route(
    status=200,
    secured=False,
    answers={
        200: {
            "description": "this document",
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    },
    problems=_problems("validation"),
)
PAGE = _route(
    status=200,
    secured=False,
    answers={
        200: {"description": "a page", "content": {"text/html": {"schema": {"type": "string"}}}}
    },
    problems=_problems("validation"),
)

WEB_PAGE = _route(
    status=200,
    secured=False,
    answers={
        200: {"description": "a page", "content": {"text/html": {"schema": {"type": "string"}}}},
        304: {"description": "the page has not changed"},
    },
    problems=_problems(),
)


_SECURITY: Json = {
    "token": {"type": "http", "scheme": "bearer"},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": f"from POST /v1/session ({SECURE_COOKIE} over https); every method but GET, "
        "HEAD and OPTIONS needs X-CSRF-Token with it",
    },
}


def _name_once(operation: Json) -> None:
    """Drop the parameters that FastAPI adds for a path where the route describes them itself.

    Args:
        operation: of the document; changed in place.
    """
    if "parameters" in operation:
        last = {(found["in"], found["name"]): found for found in operation["parameters"]}
        operation["parameters"] = list(last.values())


def install(app: FastAPI) -> None:
    """Let an application's document be the one that is described here."""

    def document() -> Json:
        if app.openapi_schema is None:
            built = get_openapi(
                title="ScriptService",
                version=__version__,
                description="Runs bash scripts, keeps every byte they print, "
                "and tells the truth about how they ended.",
                routes=app.routes,
            )
            for path in built["paths"].values():
                for operation in path.values():
                    _name_once(operation)
            components = built.setdefault("components", {})
            components["securitySchemes"] = _SECURITY
            _, schemas = models_json_schema(
                [(model, "validation") for model in _MODELS], ref_template=_REF
            )
            components["schemas"] = schemas["$defs"]
            app.openapi_schema = built
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
