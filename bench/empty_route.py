"""``python -m bench.empty_route PORT``: the server whose request rate limits the submit rate.

Its only route is a POST that reads the body and returns a fixed response. It uses the framework and
the HTTP server of the service.
"""

import sys

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

CONTENT = b"{" + b" " * 1200 + b"}"
"""The fixed response; it is as long as the JSON of a command."""


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
