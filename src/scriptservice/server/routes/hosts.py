"""The machines that run commands."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from scriptservice.server.http.command_json import time_text, to_json
from scriptservice.server.routes import openapi
from scriptservice.server.routes.request_parts import no_query, service

router = APIRouter(prefix="/v1/hosts", tags=["hosts"])


@router.get("", **openapi.HOSTS)
async def list_hosts(request: Request) -> Response:
    """List hosts."""
    no_query(request)
    here = request.app.state.here
    commands = service(request)
    items: list[dict[str, Any]] = []
    for host in await commands.hosts():
        mine = host.name == here.name
        items.append(
            {
                "name": host.name,
                "status": here.status if mine else "silent",
                "pool": "default",
                "labels": {},
                "running": commands.running if mine else 0,
                "capacity": here.capacity if mine else None,
                "last_seen_at": time_text(here.seen_at() if mine else host.last_seen_at),
                "version": host.version,
                "keeper_pid": here.keeper_pid if mine else None,
                "child_pid": here.child_pid if mine else None,
            }
        )
    return Response(to_json({"items": items}), media_type="application/json")
