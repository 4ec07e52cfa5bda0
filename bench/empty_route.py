"""``python -m bench.empty_route PORT``: the limit of the submit rate.

A POST route that reads its body and returns a fixed response, with the service's framework and HTTP
server.
"""

import sys

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

CONTENT = b"{" + b" " * 1200 + b"}"
"""As long as the JSON of a command."""


async def submit(request: Request) -> Response:
    """Read the body and return the fixed response."""
    await request.body()
    return Response(CONTENT, 201, media_type="application/json")


app = Router([Route("/", submit, methods=["POST"])])


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="error",
    )
