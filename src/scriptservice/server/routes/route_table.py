"""All routes of the service: path, method, scope, query, body, handler, answers and problems.

To add a route, add it here. OpenAPI and the documentation page are made from this table.
"""

from typing import Any

from pydantic import BaseModel

from scriptservice.server.http.problem_responses import CONTENT_RANGE
from scriptservice.server.routes import (
    attach,
    commands,
    events,
    health,
    hosts,
    inputs,
    metrics,
    operations,
    output,
    page,
)
from scriptservice.server.routes import session as page_session
from scriptservice.server.routes.decoding import (
    JSON,
    JsonBody,
    NoBody,
    NoQuery,
    QueryModel,
    RawBody,
    UndecodedBody,
    UndecodedQuery,
)
from scriptservice.server.routes.openapi import EVENT_SCHEMA, submit_parameters
from scriptservice.server.routes.request_models import (
    INPUT_BYTES,
    AttachQuery,
    EventsQuery,
    InputQuery,
    ListQuery,
    OutputQuery,
    SignalBody,
    SignInBody,
    StopBody,
    SubmitBody,
    WaitQuery,
)
from scriptservice.server.routes.response_models import (
    AcceptedInputJson,
    CommandJson,
    CommandPage,
    Health,
    HostList,
    Readiness,
    SessionJson,
)
from scriptservice.server.routes.route import Access, Answer, Route

SMALL_BODY_BYTES = 64 << 10
SIGN_IN_BODY_BYTES = 4 << 10

_TEXT = {"type": "string"}
_COMMAND = {JSON: CommandJson}
_SUBMITTED = Answer(
    "the command",
    _COMMAND,
    {
        "Location": {"description": "the command", "schema": {"type": "string"}},
        "Idempotent-Replayed": {
            "description": "true where an earlier request with this key made it",
            "schema": {"type": "string", "enum": ["true"]},
        },
    },
)
_IDEMPOTENCY_KEY = {
    "name": commands.IDEMPOTENCY_KEY,
    "in": "header",
    "description": "names the request: sent again within a day it makes nothing new",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_LAST_EVENT_ID = {
    "name": events.LAST_EVENT_ID,
    "in": "header",
    "description": "id of the last event of a broken stream: go on behind it",
    "schema": {"type": "string", "pattern": "^[0-9]{1,19}$"},
}
_RANGE = {
    "name": "Range",
    "in": "header",
    "description": "bytes=FIRST-LAST, of a finished command",
    "schema": _TEXT,
}
_BINARY = {"type": "string", "format": "binary"}
_BYTES = {output.BYTES: _BINARY, "text/plain": _TEXT}
_OUTPUT_HEADERS = {
    "Output-Offset": {"description": "of the first byte sent", "schema": {"type": "integer"}},
    "Output-Size": {"description": "bytes known when it began", "schema": {"type": "integer"}},
    "Output-Complete": {"schema": {"type": "string", "enum": ["true", "false"]}},
}
# The type `binary` makes generated clients send a file as it is.
_SUBMIT_BODY: dict[str, type[BaseModel] | dict[str, Any]] = {
    JSON: SubmitBody,
    "text/plain": _TEXT,
    "text/x-shellscript": _BINARY,
}
_SESSION = {JSON: SessionJson}
_SET_COOKIE = {"Set-Cookie": {"schema": _TEXT}}
_HTML_PAGE = Answer("a page", {"text/html": _TEXT})
_NOT_CHANGED = Answer("the page has not changed")

ROUTES: tuple[Route[Any, Any], ...] = (
    Route(
        "POST",
        "/v1/commands",
        access=Access.RUN,
        query=UndecodedQuery(submit_parameters),
        body=UndecodedBody(_SUBMIT_BODY),
        handler=commands.submit,
        answers={201: _SUBMITTED},
        problems=("gone", "too-large", "unsupported-media-type", "storage-full"),
        parameters=(_IDEMPOTENCY_KEY,),
        operation=operations.SUBMIT_COMMAND,
    ),
    Route(
        "GET",
        "/v1/commands",
        access=Access.READ,
        query=QueryModel(ListQuery),
        body=NoBody(),
        handler=commands.list_commands,
        answers={200: Answer("one page", {JSON: CommandPage})},
        operation=operations.LIST_COMMANDS,
    ),
    Route(
        "GET",
        "/v1/commands/{command_id}",
        access=Access.READ,
        query=QueryModel(WaitQuery),
        body=NoBody(),
        handler=commands.get_command,
        answers={200: Answer("the command", _COMMAND)},
        problems=("not-found",),
        operation=operations.GET_COMMAND,
    ),
    Route(
        "DELETE",
        "/v1/commands/{command_id}",
        access=Access.ADMIN,
        query=NoQuery(),
        body=NoBody(),
        handler=commands.delete_command,
        answers={204: Answer("deleted")},
        problems=("not-found", "not-finished", "storage-full"),
        operation=operations.DELETE_COMMAND,
    ),
    Route(
        "POST",
        "/v1/commands/{command_id}/stop",
        access=Access.RUN,
        query=NoQuery(),
        body=JsonBody(StopBody, SMALL_BODY_BYTES, required=False),
        handler=commands.stop_command,
        answers={202: Answer("the command", _COMMAND)},
        problems=("not-found", "already-finished", "storage-full"),
        operation=operations.STOP_COMMAND,
    ),
    Route(
        "POST",
        "/v1/commands/{command_id}/rerun",
        access=Access.RUN,
        query=QueryModel(WaitQuery),
        body=RawBody(SMALL_BODY_BYTES),
        handler=commands.rerun_command,
        answers={201: _SUBMITTED},
        problems=("not-found", "gone", "storage-full"),
        parameters=(_IDEMPOTENCY_KEY,),
        operation=operations.RERUN_COMMAND,
    ),
    Route(
        "POST",
        "/v1/commands/{command_id}/stdin",
        access=Access.RUN,
        query=QueryModel(InputQuery),
        body=RawBody(INPUT_BYTES, {output.BYTES: _BINARY}),
        handler=inputs.send_input,
        answers={202: Answer("given to the keeper", {JSON: AcceptedInputJson})},
        problems=(
            "not-found",
            "not-interactive",
            "not-running",
            "offset-mismatch",
            "too-many-requests",
            "host-unavailable",
        ),
        operation=operations.SEND_INPUT,
    ),
    Route(
        "POST",
        "/v1/commands/{command_id}/signal",
        access=Access.RUN,
        query=NoQuery(),
        body=JsonBody(SignalBody, SMALL_BODY_BYTES),
        handler=inputs.signal_command,
        answers={202: Answer("the command", _COMMAND)},
        problems=("not-found", "not-running", "host-unavailable"),
        operation=operations.SIGNAL_COMMAND,
    ),
    Route(
        "GET",
        "/v1/commands/{command_id}/output",
        access=Access.READ,
        query=QueryModel(OutputQuery),
        body=NoBody(),
        handler=output.get_output,
        answers={
            200: Answer("bytes", _BYTES, _OUTPUT_HEADERS),
            206: Answer("a range", _BYTES, _OUTPUT_HEADERS | {"Content-Range": CONTENT_RANGE}),
        },
        problems=("not-found", "range-not-satisfiable"),
        parameters=(_RANGE,),
        operation=operations.GET_OUTPUT,
    ),
    Route(
        "GET",
        "/v1/commands/{command_id}/events",
        access=Access.READ,
        query=QueryModel(EventsQuery),
        body=NoBody(),
        handler=events.get_events,
        answers={
            200: Answer(
                "Server-Sent Events: status, output, end", {events.EVENT_STREAM: EVENT_SCHEMA}
            )
        },
        problems=("not-found",),
        parameters=(_LAST_EVENT_ID,),
        operation=operations.FOLLOW_EVENTS,
    ),
    Route(
        "GET",
        "/v1/commands/{command_id}/attach",
        access=Access.RUN,
        query=QueryModel(AttachQuery),
        body=NoBody(),
        handler=attach.attach,
        answers={101: Answer("a WebSocket")},
        problems=("not-found", "already-finished", "not-interactive"),
        operation=operations.ATTACH,
    ),
    Route(
        "GET",
        "/v1/hosts",
        access=Access.READ,
        query=NoQuery(),
        body=NoBody(),
        handler=hosts.list_hosts,
        answers={200: Answer("all hosts", {JSON: HostList})},
        operation=operations.LIST_HOSTS,
    ),
    Route(
        "GET",
        "/healthz",
        access=Access.OPEN,
        query=NoQuery(),
        body=NoBody(),
        handler=health.healthz,
        answers={200: Answer("up", {JSON: Health})},
        operation=operations.GET_HEALTH,
    ),
    Route(
        "GET",
        "/readyz",
        access=Access.OPEN,
        query=NoQuery(),
        body=NoBody(),
        handler=health.readyz,
        answers={200: Answer("ready", {JSON: Readiness})},
        operation=operations.GET_READINESS,
    ),
    Route(
        "GET",
        "/openapi.json",
        access=Access.OPEN,
        query=NoQuery(),
        body=NoBody(),
        handler=health.openapi_json,
        answers={200: Answer("this document", {JSON: {"type": "object"}})},
        operation=operations.GET_OPENAPI,
    ),
    Route(
        "GET",
        "/docs",
        access=Access.OPEN,
        query=NoQuery(),
        body=NoBody(),
        handler=page.get_docs,
        answers={200: _HTML_PAGE, 304: _NOT_CHANGED},
        operation=operations.GET_DOCS,
    ),
    Route(
        "GET",
        "/metrics",
        access=Access.READ,
        query=NoQuery(),
        body=NoBody(),
        handler=metrics.get_metrics,
        answers={
            200: Answer(
                "all metrics, for Prometheus",
                {"text/plain": _TEXT, "application/openmetrics-text": _TEXT},
            )
        },
        operation=operations.GET_METRICS,
    ),
    Route(
        "POST",
        "/v1/session",
        access=Access.OPEN,
        query=NoQuery(),
        body=JsonBody(SignInBody, SIGN_IN_BODY_BYTES),
        handler=page_session.sign_in,
        answers={200: Answer("who is signed in", _SESSION, _SET_COOKIE)},
        problems=("unauthenticated", "too-many-requests", "storage-full"),
        operation=operations.SIGN_IN,
    ),
    Route(
        "GET",
        "/v1/session",
        access=Access.READ,
        query=NoQuery(),
        body=NoBody(),
        handler=page_session.get_session,
        answers={200: Answer("who is signed in", _SESSION)},
        operation=operations.GET_SESSION,
    ),
    Route(
        "DELETE",
        "/v1/session",
        access=Access.READ,
        query=NoQuery(),
        body=NoBody(),
        handler=page_session.sign_out,
        answers={204: Answer("ended", headers=_SET_COOKIE)},
        problems=("storage-full",),
        operation=operations.SIGN_OUT,
    ),
    Route(
        "GET",
        "/",
        access=Access.OPEN,
        query=UndecodedQuery(),
        body=NoBody(),
        handler=page.get_page,
        answers={200: _HTML_PAGE, 304: _NOT_CHANGED},
        operation=operations.GET_PAGE,
    ),
    # These are the other addresses of the page. Only the page in the browser uses their query
    # strings.
    *(
        Route(
            "GET",
            path,
            access=Access.OPEN,
            query=UndecodedQuery(),
            body=NoBody(),
            handler=page.get_page,
        )
        for path in ("/new", "/hosts", "/sign-in", "/commands/{command_id}")
    ),
    Route(
        "GET",
        "/assets/{name}",
        access=Access.OPEN,
        query=UndecodedQuery(),
        body=NoBody(),
        handler=page.get_asset,
    ),
)
