"""The HTTP application: all routes, and the layers that a request passes before its route."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as PathRoute
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from scriptservice.errors import ScriptServiceError
from scriptservice.server.access.authentication import TokenCheck
from scriptservice.server.access.origin_check import OriginCheck
from scriptservice.server.access.valid_tokens import ValidTokens
from scriptservice.server.http.head_requests import HeadAsGet
from scriptservice.server.http.problem_responses import (
    ProblemError,
    error_response,
    problem_response,
)
from scriptservice.server.routes.decoding import has_room, release_body
from scriptservice.server.routes.openapi import document
from scriptservice.server.routes.route import Route, Services
from scriptservice.server.routes.route_table import ROUTES
from scriptservice.server.telemetry.request_meter import RequestMeter


def build_application(services: Services, tokens: ValidTokens, hosts: list[str]) -> ASGIApp:
    """Return the application.

    A request passes the application's layers in this order: request meter, HEAD, origin check,
    token check, router.

    Args:
        services: the services that the routes' handlers use.
        tokens: the valid tokens.
        hosts: names besides localhost that a request's Host header may contain.
    """
    router = build_router(ROUTES, services)
    checked = TokenCheck(router, tokens, services.sessions)
    return RequestMeter(
        HeadAsGet(OriginCheck(checked, hosts)), router.routes, services.metrics.answered
    )


def build_router(routes: Iterable[Route[Any, Any]], services: Services) -> Router:
    """Return a router for these routes.

    Raises:
        ValueError: a route does not declare the scope that it needs.
    """
    by_path: dict[str, dict[str, Route[Any, Any]]] = defaultdict(dict)
    for route in routes:
        if route.access is None:
            message = f"cannot serve {route.method} {route.path}: its route has no scope"
            raise ValueError(message)
        by_path[route.path][route.method] = route
    return _PathRouter({path: _Path(methods, services) for path, methods in by_path.items()})


@cache
def openapi_document() -> dict[str, Any]:
    """Return the OpenAPI document of the service. The first call makes the document."""
    return document(ROUTES)


class _PathRouter(Router):
    """Finds the application of a path; finds a path without parameters by one look-up.

    Starlette compares a path with one pattern after the other. For a request that submits a
    command, this would take a noticeable part of the processor time.

    Args:
        paths: the application of each path.
    """

    def __init__(self, paths: Mapping[str, "_Path"]) -> None:
        super().__init__(
            [PathRoute(path, each) for path, each in paths.items()],
            redirect_slashes=False,
            default=_no_such_path,
        )
        self._fixed = {path: each for path, each in paths.items() if "{" not in path}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the application of its path."""
        fixed = self._fixed.get(scope["path"]) if scope["type"] == "http" else None
        await (fixed or super().__call__)(scope, receive, send)


class _Path:
    """The routes of one path, as an ASGI application.

    Args:
        routes: the routes, by HTTP method.
        services: the services that the routes' handlers use.
    """

    def __init__(self, routes: dict[str, Route[Any, Any]], services: Services) -> None:
        self._routes = routes
        self._services = services
        heads = ["HEAD"] if "GET" in routes else []
        self._allow = ", ".join(sorted([*routes, *heads]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        try:
            try:
                # Do not keep the response in a variable. The response shows the command, so it may
                # be as large as the request's body. A variable would keep it in memory until this
                # call returns.
                await (await self._respond(request))(scope, receive, send)
            except _UnexpectedError as error:
                await error.response(scope, receive, send)
                # uvicorn logs the cause and closes the connection.
                raise error.cause from None
            if has_room(request):
                # The frame that goes to the keeper is as large as the body. So keep the body's
                # share of the budget until the frame too has left this process's memory.
                await self._services.commands.wait_until_sent()
        finally:
            release_body(request)

    async def _respond(self, request: Request) -> Response:
        route = self._routes.get(request.method)
        if route is None:
            path = request.url.path
            detail = f"cannot {request.method} {path}: this path takes {self._allow}"
            return problem_response("method-not-allowed", detail, path, {"Allow": self._allow})
        try:
            return await route.respond(request, self._services)
        except (ProblemError, ScriptServiceError) as error:
            return error_response(request, error)
        except Exception as error:
            raise _UnexpectedError(error, error_response(request, error)) from error


class _UnexpectedError(Exception):
    """A handler raised an exception that is neither a `ProblemError` nor a `ScriptServiceError`.

    Args:
        cause: the exception.
        response: the answer to the request.
    """

    def __init__(self, cause: Exception, response: Response) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.response = response


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        path = Request(scope).url.path
        response = problem_response("not-found", f"cannot find {path}", path)
        await response(scope, receive, send)
