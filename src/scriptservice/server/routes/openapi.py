"""Makes the OpenAPI document from the declarations of the routes."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from scriptservice.server.access.page_sessions import COOKIE, SECURE_COOKIE
from scriptservice.server.http.problem_responses import MEDIA_TYPE, PROBLEM_HEADERS, TITLES
from scriptservice.server.routes.decoding import (
    JSON,
    JsonBody,
    QueryModel,
    RawBody,
    UndecodedBody,
    UndecodedQuery,
)
from scriptservice.server.routes.operations import EVENT_STREAM, TAGS, Operation
from scriptservice.server.routes.request_models import PTY_PATTERN, SubmitBody, WaitQuery
from scriptservice.server.routes.response_models import CommandEvent, OutputEvent, Problem
from scriptservice.server.routes.route import Access, Answer, Route
from scriptservice.version import __version__

Json = dict[str, Any]

PROBLEMS_OF_ALL = (
    "bad-request",
    "forbidden",
    "host-not-allowed",
    "headers-too-large",
    "internal",
    "store-unavailable",
)
"""The problems with which every route may answer: refusals by the ASGI layers, and failures."""

_REF = "#/components/schemas/{model}"
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
_PATH_PARAMETERS: Json = {"command_id": {"type": "string", "format": "uuid"}}


def document(routes: Iterable[Route[Any, Any]]) -> Json:
    """Return the OpenAPI document of these routes. Routes without a group are left out."""
    models: set[type[BaseModel]] = {CommandEvent, OutputEvent, Problem}
    paths: Json = {}
    for route in routes:
        if route.operation is not None:
            described = _operation(route, route.operation, models)
            paths.setdefault(route.path, {})[route.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ScriptService",
            "description": "Runs bash scripts, keeps every byte they print, "
            "and tells the truth about how they ended.",
            "version": __version__,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
            "contact": {"name": "The operator of this service"},
        },
        "servers": [{"url": "/", "description": "the service that this document comes from"}],
        "tags": [{"name": name, "description": description} for name, description in TAGS],
        "paths": paths,
        "components": {"schemas": _schemas(models), "securitySchemes": _SECURITY},
    }


def _schemas(models: Iterable[type[BaseModel]]) -> Json:
    """Return a dictionary of the schemas of models, and of the models inside them, by name."""
    ordered = sorted(models, key=lambda model: model.__name__)
    _, made = models_json_schema([(model, "validation") for model in ordered], ref_template=_REF)
    renamed = re.sub(r"\b([A-Z]\w*)Json\b", r"\1", json.dumps(made["$defs"]))
    return dict(sorted(json.loads(renamed).items()))


def _operation(route: Route[Any, Any], described: Operation, models: set[type[BaseModel]]) -> Json:
    """Return the OpenAPI operation object of a route.

    Args:
        route: the route.
        described: the route's description.
        models: the set to which this function adds the models that the operation refers to.
    """
    body = _body(route, models)
    responses = {
        str(status): _response(answer, models) for status, answer in sorted(route.answers.items())
    }
    for status, by_type in described.responses.items():
        for media_type, value in by_type.items():
            responses[str(status)]["content"][media_type]["example"] = value
    is_open = route.access is Access.OPEN
    operation: Json = {
        "tags": [described.tag],
        "summary": described.summary,
        "description": described.description,
        "operationId": described.id,
        "security": [] if is_open else [{"token": []}, {"session": []}],
        "parameters": _parameters(route),
        "responses": responses | _problems(_kinds_of_problems(route)),
    }
    if body:
        for media_type, examples in described.requests.items():
            body["content"][media_type]["examples"] = {
                f"example{number}": {"summary": summary, "value": value}
                for number, (summary, value) in enumerate(examples.items(), 1)
            }
        operation["requestBody"] = body
    return operation


def _parameters(route: Route[Any, Any]) -> list[Json]:
    parameters: list[Json] = [
        {"name": name, "in": "path", "required": True, "schema": _PATH_PARAMETERS[name]}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    parameters += [dict(parameter) for parameter in route.parameters]
    if isinstance(route.query, QueryModel):
        parameters += _model_parameters(route.query.model)
    elif isinstance(route.query, UndecodedQuery) and route.query.parameters:
        parameters += route.query.parameters()
    return parameters


def _body(route: Route[Any, Any], models: set[type[BaseModel]]) -> Json | None:
    match route.body:
        case JsonBody(model=model, required=required):
            return {"required": required, "content": _content({JSON: model}, models)}
        case UndecodedBody(content=content):
            return {"required": True, "content": _content(content, models)}
        case RawBody(content=content) if content:
            return {"required": False, "content": _content(content, models)}
    return None


def _response(answer: Answer, models: set[type[BaseModel]]) -> Json:
    response: Json = {"description": answer.description}
    if answer.content:
        response["content"] = _content(answer.content, models)
    if answer.headers:
        response["headers"] = dict(answer.headers)
    return response


def _content(
    content: Mapping[str, type[BaseModel] | Mapping[str, Any]], models: set[type[BaseModel]]
) -> Json:
    found: Json = {}
    for media_type, schema in content.items():
        if isinstance(schema, type):
            models.add(schema)
            found[media_type] = {"schema": _ref(schema)}
        else:
            found[media_type] = {"schema": schema}
    return found


def _ref(model: type[BaseModel]) -> Json:
    return {"$ref": _REF.format(model=model.__name__.removesuffix("Json"))}


def _kinds_of_problems(route: Route[Any, Any]) -> set[str]:
    kinds = {*route.problems, *PROBLEMS_OF_ALL}
    if route.access is not Access.OPEN:
        kinds.add("unauthenticated")
    if isinstance(route.body, JsonBody):
        kinds |= {"too-large", "unsupported-media-type"}
    elif isinstance(route.body, RawBody):
        kinds.add("too-large")
    if route.parameters or not isinstance(route.query, UndecodedQuery):
        kinds.add("validation")
    return kinds


def _problems(kinds: Iterable[str]) -> Json:
    """Return the answers for the given kinds of problems, by status."""
    answers: Json = {}
    for kind in sorted(kinds, key=list(TITLES).index):
        status, title = TITLES[kind]
        answer = answers.setdefault(
            str(status), {"description": title, "content": {MEDIA_TYPE: {"schema": _ref(Problem)}}}
        )
        if kind in PROBLEM_HEADERS:
            answer["headers"] = PROBLEM_HEADERS[kind]
    return answers


def _model_parameters(model: type[BaseModel]) -> list[Json]:
    """Return the fields of a model as the parameters of a query."""
    schema = model.model_json_schema(ref_template=_REF)
    parameters = []
    for name, field in schema["properties"].items():
        field.pop("title", None)
        description = field.pop("description", "")
        choices = field.pop("anyOf", None)
        if choices:  # a parameter can be absent, but not null
            field.update(next(choice for choice in choices if choice != {"type": "null"}))
            field.pop("default", None)
        parameters.append(
            {"name": name, "in": "query", "description": description, "schema": field}
        )
    return parameters


def submit_parameters() -> list[Json]:
    """Return the query parameters of a submission.

    They are ``wait`` and, for a request whose body is the script itself, the other fields of a
    submission.
    """
    names = {"labels": "label", "args": "arg"}
    parameters = _model_parameters(WaitQuery)
    for parameter in _model_parameters(SubmitBody):
        name = parameter["name"]
        if name == "script":
            continue
        if name in ("labels", "env"):
            parameter["schema"] = {"type": "array", "items": {"type": "string"}}
            parameter["description"] += ": key=value; repeats"
        # The service applies the defaults. A generated client would send them, also with a JSON
        # body, with which the service refuses them.
        default = parameter["schema"].pop("default", None)
        if default not in (None, [], {}) and default is not False:
            parameter["description"] += f"; {default} if absent"
        if name == "pty":
            parameter["schema"] = {"type": "string", "pattern": PTY_PATTERN}
            parameter["description"] += ": ROWSxCOLS, such as 24x80"
        if name == "output_limit_bytes":  # absent is not the same as null
            parameter["schema"] = {"anyOf": [parameter["schema"], {"const": "null"}]}
        parameter["name"] = names.get(name, name)
        parameter["description"] += " (only with a script as the body)"
        parameters.append(parameter)
    return parameters


EVENT_SCHEMA: Json = {
    "type": "string",
    "contentMediaType": EVENT_STREAM,
    "contentSchema": {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "event": {"type": "string", "enum": ["status", "output", "end"]},
            "data": {
                "type": "string",
                "contentMediaType": JSON,
                "contentSchema": {"anyOf": [_ref(CommandEvent), _ref(OutputEvent)]},
            },
            "retry": {"type": "integer"},
        },
    },
}
"""A command's event stream: a text of Server-Sent Events. ``contentSchema`` describes one event."""
