"""``python -m bench.empty_route PORT``: what the framework does at best, for the submit rate.

A POST route that reads its body and returns a ready response, on the server that the service uses.
"""

import sys

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

READY = b"{" + b" " * 1200 + b"}"
"""As long as a command."""


async def take(request: Request) -> Response:
    """Read what came; answer."""
    await request.body()
    return Response(READY, 201, media_type="application/json")


app = Router([Route("/", take, methods=["POST"])])


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
