"""Answers a HEAD request like a GET request for the same path, but sends no body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEAD_KEY = "scriptservice.head"


class HeadAsGet:
    """The ASGI layer that passes HEAD on as GET and drops the body of the response.

    Args:
        app: the next layer. For a HEAD request, the scope that it gets contains `HEAD_KEY`. This
            tells a handler not to begin a stream.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET", HEAD_KEY: True}, receive, without_body)
