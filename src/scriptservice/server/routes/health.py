"""The routes that tell whether the service is up and ready, and return the OpenAPI document."""

from dataclasses import asdict

from starlette.responses import Response

from scriptservice.errors import StoreError
from scriptservice.fleet.transport import HostState
from scriptservice.server.commands.command_service import CommandService
from scriptservice.server.http.command_json import to_json
from scriptservice.server.http.problem_responses import ProblemError
from scriptservice.server.routes.decoding import JSON
from scriptservice.server.routes.route import Call


async def healthz(call: Call[None, None]) -> Response:  # noqa: ARG001 - as every handler
    """Answer that the server's process is up."""
    return Response(to_json({"status": "ok"}), media_type=JSON)


async def readyz(call: Call[None, None]) -> Response:
    """Answer whether the database and the keeper answer, and what does not work fully."""
    commands = call.services.commands
    try:
        await commands.hosts()
    except StoreError as error:
        raise _not_ready("the database does not answer") from error
    if commands.takes_no_writes:
        raise _not_ready("the database takes no writes")
    try:
        state = await commands.host_state()
    except TimeoutError as error:
        raise _not_ready("the keeper does not answer") from error
    answer = {
        "status": "ready",
        "store": "ok",
        "keeper": "ok",
        "tree_kill": state.tree_kill,
        "spawn": state.spawn,
        "degraded": _degraded(state, commands),
        "unkillable": [asdict(each) for each in state.unkillable],
        "limits": list(state.limits),
    }
    return Response(to_json(answer), media_type=JSON)


def _not_ready(why: str) -> ProblemError:
    detail = f"cannot work now: {why}"
    return ProblemError("store-unavailable", detail, headers={"Retry-After": "1"})


def _degraded(state: HostState, commands: CommandService) -> list[str]:
    degraded = []
    if (shortage := commands.disk_shortage) is not None:
        degraded.append(f"new commands are refused: {shortage}")
    if (recording_waits := commands.recording_waits) is not None:
        degraded.append(f"new output waits in the journal and is not yet stored: {recording_waits}")
    if state.full:
        degraded.append("there is no room for output: scripts that print wait")
    if state.strays:
        pids = ", ".join(map(str, state.strays))
        degraded.append(f"processes of unknown commands are alive: {pids}")
    degraded += [
        f"command {each.command} cannot end: its process {each.pid} of uid {each.uid} "
        "may not be signalled"
        for each in state.unkillable
    ]
    return degraded


async def openapi_json(call: Call[None, None]) -> Response:
    """Return the OpenAPI document."""
    return Response(to_json(call.services.openapi()), media_type=JSON)
