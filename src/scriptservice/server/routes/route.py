"""A route of the API: its declaration, and the call that its handler gets.

``route_table`` declares the routes. Before a handler is called, the query and the body of the
request are decoded and validated as declared. The handler acts and returns the response. If
the handler raises an error, the answer is a problem. OpenAPI is made from the same declarations.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from scriptservice.server.access.page_sessions import PageSessions
from scriptservice.server.access.sign_in import SignIn
from scriptservice.server.commands.command_input import CommandInput
from scriptservice.server.commands.command_service import CommandService
from scriptservice.server.commands.maxima import SubmitDefaults
from scriptservice.server.http.body_budget import BodyBudget
from scriptservice.server.output.event_stream import EventStreams
from scriptservice.server.output.output_service import OutputService
from scriptservice.server.page.page_files import PageFiles
from scriptservice.server.routes.decoding import BodyDecoder, QueryDecoder
from scriptservice.server.routes.operations import Operation
from scriptservice.server.telemetry.gauges import Gauges
from scriptservice.server.telemetry.host_info import HostInfo
from scriptservice.server.telemetry.prometheus import Metrics
from scriptservice.server.websocket.attached_clients import AttachedClients

Query = TypeVar("Query")
Body = TypeVar("Body")


class Access(StrEnum):
    """The scope that a token needs for a route; ``OPEN`` routes need no token."""

    OPEN = "open"
    READ = "read"
    RUN = "run"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the server that handlers use, and the defaults that depend on settings."""

    commands: CommandService
    input: CommandInput
    outputs: OutputService
    events: EventStreams
    attached_clients: AttachedClients
    host: HostInfo
    sessions: PageSessions
    sign_in: SignIn
    metrics: Metrics
    gauges: Gauges
    page: PageFiles
    bodies: BodyBudget
    submit_defaults: SubmitDefaults
    openapi: Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Call(Generic[Query, Body]):
    """A decoded request, as its handler gets it.

    Attributes:
        request: the request itself.
        services: the parts of the server that the handler uses.
        query: the decoded query.
        body: the decoded body.
    """

    request: Request
    services: Services
    query: Query
    body: Body

    @property
    def command_id(self) -> str:
        """The id in the path, as the client wrote it."""
        return str(self.request.path_params["command_id"])

    @property
    def token_name(self) -> str:
        """The name of the request's token, or of the token with which its session began."""
        return str(self.request.state.token.name)


@dataclass(frozen=True, slots=True)
class Answer:
    """A route's answer with one status, as OpenAPI describes it.

    Attributes:
        description: what the answer is.
        content: a model or a JSON schema, by media type.
        headers: OpenAPI header objects, by name of the header.
    """

    description: str
    content: Mapping[str, type[BaseModel] | Mapping[str, Any]] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route(Generic[Query, Body]):
    """The declaration of a route.

    Attributes:
        method: the HTTP method. A route for GET also answers HEAD.
        path: the path, where ``{command_id}`` stands for one segment.
        access: the scope that a token needs for the route. If it is None, the application refuses
            to start.
        query: decodes the query.
        body: decodes the body.
        handler: makes the response.
        answers: the route's answers, by status.
        problems: kinds of problems with which the route may answer, in addition to the kinds that
            are the same for every route.
        parameters: OpenAPI parameters, in addition to those of the path and of the query's model.
        operation: the route's description in the OpenAPI document; None leaves the route out of the
            document.
    """

    method: str
    path: str
    access: Access | None
    query: QueryDecoder[Query]
    body: BodyDecoder[Body]
    handler: Callable[[Call[Query, Body]], Awaitable[Response]]
    answers: Mapping[int, Answer] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    parameters: tuple[Mapping[str, Any], ...] = ()
    operation: Operation | None = None

    async def respond(self, request: Request, services: Services) -> Response:
        """Decode a request, call the handler, and return the handler's response.

        Raises:
            ProblemError: the service must answer with this problem.
            ScriptServiceError: the service must answer with the problem that
                `problem_responses.to_problem` returns.
        """
        query = self.query.decode(request)
        body = await self.body.decode(request, services.bodies)
        return await self.handler(Call(request, services, query, body))
