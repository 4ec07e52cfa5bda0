"""Measures every request: which route, which answer, and how soon it began."""

import re
import time
from collections.abc import Callable, Iterable

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OTHER = "other"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})

Answered = Callable[[str, str, int, float | None], None]


class RequestMeter:
    """The ASGI layer that tells of each answer when it begins; it stands before all others.

    It finds the route itself: an answer may come from a layer that stands before routing, and no
    label may come from what a client makes up.

    Args:
        app: what is behind it.
        routes: all of the application's.
        answered: see `Metrics.answered`.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute], answered: Answered) -> None:
        self._app = app
        self._answered = answered
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
        """Pass a request on and tell of its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        begun = False

        async def telling(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self._tell(scope, message["status"], began)
            await send(message)

        try:
            await self._app(scope, receive, telling)
        except Exception:
            if not begun:  # whoever takes the exception answers so
                self._tell(scope, 500, began)
            raise

    def _tell(self, scope: Scope, status: int, began: float) -> None:
        method = scope["method"]
        # An answer that is held because the client asks for it says nothing of the service.
        held = b"wait=" in scope["query_string"]
        self._answered(
            self._route(scope["path"]),
            method if method in METHODS else OTHER,
            status,
            None if held else time.perf_counter() - began,
        )

    def _route(self, path: str) -> str:
        if path in self._fixed:
            return self._fixed[path]
        for pattern, name in self._patterns.items():
            if pattern.match(path):
                return name
        return OTHER
