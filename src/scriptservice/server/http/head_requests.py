"""Answers HEAD on every route for GET with the same response, without its body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEAD_KEY = "scriptservice.head"


class HeadAsGet:
    """The ASGI layer that passes HEAD on as GET and drops the body of the response.

    Args:
        app: the next layer. For HEAD, the scope has `HEAD_KEY`, so that a handler does not begin
            a stream.
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
