"""Counts requests by route, method and status, and measures the time to the start of the answer."""

import re
import time
from collections.abc import Callable, Iterable

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OTHER = "other"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})

OnAnswered = Callable[[str, str, int, float | None], None]


class RequestMeter:
    """The outermost ASGI layer of the application. It reports each answer when the answer starts.

    The meter finds the route itself, because an inner layer may answer before the router is called.
    A path without a route counts as ``other``, so that no client can make new values of a label.

    Args:
        app: the next layer.
        routes: all routes of the application.
        on_answered: see `Metrics.answered`.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute], on_answered: OnAnswered) -> None:
        self._app = app
        self._on_answered = on_answered
        self._fixed: dict[str, str] = {}
        self._patterns: dict[re.Pattern[str], str] = {}
        for route in routes:
            if isinstance(route, Route):
                name = re.sub(r"\{\w+\}", "{id}", route.path)
                if name == route.path:
                    self._fixed[name] = name
                else:
                    self._patterns[route.path_regex] = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and report its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received_at = time.perf_counter()
        answer_started = False

        async def send_and_report(message: Message) -> None:
            nonlocal answer_started
            if message["type"] == "http.response.start":
                answer_started = True
                self._report(scope, message["status"], received_at)
            await send(message)

        try:
            await self._app(scope, receive, send_and_report)
        except Exception:
            if not answer_started:  # uvicorn answers the exception with 500
                self._report(scope, 500, received_at)
            raise

    def _report(self, scope: Scope, status: int, received_at: float) -> None:
        method = scope["method"]
        # If the client asked the service to wait, the time says nothing about the service's speed.
        held = b"wait=" in scope["query_string"]
        self._on_answered(
            self._route(scope["path"]),
            method if method in METHODS else OTHER,
            status,
            None if held else time.perf_counter() - received_at,
        )

    def _route(self, path: str) -> str:
        if path in self._fixed:
            return self._fixed[path]
        for pattern, name in self._patterns.items():
            if pattern.match(path):
                return name
        return OTHER
