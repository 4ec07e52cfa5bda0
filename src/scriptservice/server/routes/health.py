"""Whether the service is up, and whether it can do its work."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from scriptservice.errors import StoreError
from scriptservice.fleet.transport import HostState
from scriptservice.server.http import response_headers
from scriptservice.server.http.command_json import to_json
from scriptservice.server.http.problem_responses import ProblemError
from scriptservice.server.page.api_docs import POLICY as DOCS_POLICY
from scriptservice.server.page.api_docs import docs_page
from scriptservice.server.routes import openapi
from scriptservice.server.routes.request_parts import no_query, service

router = APIRouter(tags=["health"])

JSON = "application/json"


@router.get("/healthz", **openapi.HEALTH)
async def healthz(request: Request) -> Response:
    """Say that the process is up."""
    no_query(request)
    return Response(to_json({"status": "ok"}), media_type=JSON)


@router.get("/readyz", **openapi.READY)
async def readyz(request: Request) -> Response:
    """Say whether store and keeper answer, and what is degraded."""
    no_query(request)
    try:
        await service(request).hosts()
    except StoreError as error:
        raise _not_ready("the database does not answer") from error
    if service(request).takes_no_writes:
        raise _not_ready("the database takes no writes")
    try:
        state = await service(request).host_state()
    except TimeoutError as error:
        raise _not_ready("the keeper does not answer") from error
    answer = {
        "status": "ready",
        "store": "ok",
        "keeper": "ok",
        "tree_kill": state.tree_kill,
        "spawn": state.spawn,
        "degraded": _degraded(state, service(request).recording_waits),
    }
    return Response(to_json(answer), media_type=JSON)


def _not_ready(why: str) -> ProblemError:
    detail = f"cannot work now: {why}"
    return ProblemError("store-unavailable", detail, headers={"Retry-After": "1"})


def _degraded(state: HostState, recording_waits: str | None) -> list[str]:
    degraded = []
    if recording_waits is not None:
        degraded.append(f"what scripts print is kept and not yet stored: {recording_waits}")
    if state.full:
        degraded.append("there is no room for output: scripts that print wait")
    if state.strays:
        pids = ", ".join(map(str, state.strays))
        degraded.append(f"processes that no command can be told of are alive: {pids}")
    return degraded


@router.get("/openapi.json", **openapi.DOCUMENT)
async def openapi_json(request: Request) -> Response:
    """Return the OpenAPI document."""
    no_query(request)
    return Response(to_json(request.app.openapi()), media_type=JSON)


@router.get("/docs", **openapi.PAGE)
async def docs(request: Request) -> Response:
    """Return the contract as a page that loads nothing from elsewhere."""
    no_query(request)
    content = docs_page(request.app.openapi())
    return Response(content, headers={response_headers.POLICY: DOCS_POLICY}, media_type="text/html")
