"""The route that lists the machines that run commands."""

from typing import Any

from starlette.responses import Response

from scriptservice.server.http.command_json import time_text, to_json
from scriptservice.server.routes.decoding import JSON
from scriptservice.server.routes.route import Call


async def list_hosts(call: Call[None, None]) -> Response:
    """List the hosts that the database knows."""
    this, commands = call.services.host, call.services.commands
    items: list[dict[str, Any]] = []
    for host in await commands.hosts():
        is_this = host.name == this.name
        items.append(
            {
                "name": host.name,
                "status": this.status if is_this else "silent",
                "pool": "default",
                "labels": {},
                "running": commands.running if is_this else 0,
                "capacity": this.capacity if is_this else None,
                "last_seen_at": time_text(this.last_seen_at() if is_this else host.last_seen_at),
                "version": host.version,
                "keeper_pid": this.keeper_pid if is_this else None,
                "child_pid": this.child_pid if is_this else None,
            }
        )
    return Response(to_json({"items": items}), media_type=JSON)
