"""Answers that stream: sent as they come, ended when the client goes, never falsely complete."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class StreamCutError(Exception):
    """A stream ends here though it is not complete: the server ends, or the command is gone."""


class StreamResponse(Response):
    """Streams bytes, and notices at once when the client goes.

    Args:
        content: the bytes; raises `StreamCutError` where it ends too early: the connection is
            then closed without the last chunk, so that nobody takes it for complete.
        status_code: 200 or 206.
        headers: with the length, if it is known.
        media_type: of the bytes.
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
        """Send it, or as much of it as the client stays for."""
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_client_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
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


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
