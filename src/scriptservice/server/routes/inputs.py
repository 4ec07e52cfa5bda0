"""The routes that send input and signals to running commands."""

from starlette.responses import Response

from scriptservice.server.http.command_json import command_view, to_json
from scriptservice.server.routes.decoding import JSON
from scriptservice.server.routes.request_models import InputQuery, SignalBody
from scriptservice.server.routes.route import Call


async def send_input(call: Call[InputQuery, bytes]) -> Response:
    """Give input to an interactive command: all of it or nothing."""
    accepted = await call.services.input.send(
        call.command_id, call.body, offset=call.query.offset, close=call.query.close
    )
    answer = {"accepted_bytes": accepted.accepted_bytes, "offset": accepted.offset}
    return Response(to_json(answer), 202, media_type=JSON)


async def signal_command(call: Call[None, SignalBody]) -> Response:
    """Send a signal to the process group of a running script."""
    command = await call.services.input.signal(call.command_id, call.body.signal)
    return Response(to_json(command_view(command)), 202, media_type=JSON)
