"""Work for a client ends when the client goes."""

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from scriptservice.server.http.problem_responses import ProblemError
from scriptservice.server.routes.commands import while_client_stays


def request_of(*messages: str) -> Request:
    """Return a request whose client sends messages, and then neither sends nor goes."""
    left = list(messages)

    async def receive() -> Any:
        if left:
            return {"type": left.pop(0)}
        return await asyncio.Event().wait()

    return Request({"type": "http", "method": "GET"}, receive)


def test_work_is_cancelled_when_its_client_goes() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def ask() -> None:
        with pytest.raises(ProblemError):
            await while_client_stays(request_of("http.request", "http.disconnect"), work())
        await asyncio.sleep(0)

    asyncio.run(ask())
    assert ended == ["cancelled"]


def test_a_client_that_stays_is_answered() -> None:
    async def work() -> int:
        await asyncio.sleep(0.01)
        return 5

    assert asyncio.run(while_client_stays(request_of("http.request"), work())) == 5
