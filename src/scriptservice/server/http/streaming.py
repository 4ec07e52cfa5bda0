"""Streamed answers, which end when the client disconnects.

If the server ends an answer early, the client can see that the answer is not complete.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class StreamCutError(Exception):
    """A stream has to end early, because the server ends or the command was deleted."""


class StreamResponse(Response):
    """An answer that streams bytes and stops as soon as the client disconnects.

    Args:
        content: yields the bytes. If it raises `StreamCutError`, the connection is closed without
            the last chunk, so that the client sees that the answer is not complete.
        status_code: 200 or 206.
        headers: the headers, with Content-Length if the length is known.
        media_type: the media type of the bytes.
    """

    def __init__(
        self,
        content: AsyncIterator[bytes],
        *,
        status_code: int,
        headers: dict[str, str],
        media_type: str,
    ) -> None:
        super().__init__(None, status_code, media_type=media_type)
        del self.headers["content-length"]
        self.headers["content-type"] = media_type
        self.headers.update(headers)
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the bytes until they end or the client disconnects."""
        sending = asyncio.ensure_future(self._send(send))
        disconnected = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({sending, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, disconnected):
                task.cancel()
        with suppress(asyncio.CancelledError, OSError):
            await sending

    async def _send(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        try:
            async for part in self._content:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        except StreamCutError:
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
