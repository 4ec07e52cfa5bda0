"""The HTTP application: all routes, and the layers that a request passes on its way to them."""

import os
from dataclasses import dataclass, field

from fastapi import FastAPI
from starlette.types import ASGIApp

from scriptservice.protocol.clock import now_us
from scriptservice.server.access.authentication import TokenCheck
from scriptservice.server.access.origin_check import Door
from scriptservice.server.access.page_sessions import Sessions
from scriptservice.server.access.sign_in import SignIn
from scriptservice.server.access.valid_tokens import Tokens
from scriptservice.server.commands.command_service import Commands
from scriptservice.server.http import problem_responses
from scriptservice.server.http.body_budget import BodyBudget
from scriptservice.server.http.head_requests import HeadAsGet
from scriptservice.server.output.event_stream import Events
from scriptservice.server.output.output_service import Outputs
from scriptservice.server.page.page_files import Page, package_directory
from scriptservice.server.routes import commands as command_routes
from scriptservice.server.routes import events as event_routes
from scriptservice.server.routes import health as health_routes
from scriptservice.server.routes import hosts as host_routes
from scriptservice.server.routes import metrics as metrics_routes
from scriptservice.server.routes import openapi
from scriptservice.server.routes import output as output_routes
from scriptservice.server.routes import page as page_routes
from scriptservice.server.routes import session as session_routes
from scriptservice.server.routes.submit_shortcut import SubmitRoute
from scriptservice.server.telemetry.gauges import Gauges
from scriptservice.server.telemetry.metrics import Metrics
from scriptservice.server.telemetry.request_meter import Meter
from scriptservice.version import __version__


@dataclass(slots=True)
class Here:
    """This machine as ``/v1/hosts`` shows it."""

    name: str
    capacity: int | None
    keeper_pid: int
    child_pid: int = field(default_factory=os.getpid)
    status: str = "up"

    def seen_at(self) -> int:
        """Return when it was last seen: the keeper's death would end this process too."""
        return now_us()


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask, and how one gets to be one of them."""

    tokens: Tokens
    sessions: Sessions
    sign_in: SignIn


def build_app(
    *,
    commands: Commands,
    outputs: Outputs,
    events: Events,
    here: Here,
    access: Access,
    metrics: Metrics,
    gauges: Gauges,
    hosts: list[str],
) -> ASGIApp:
    """Return the application with its layers.

    Args:
        commands: the service's verbs.
        outputs: the output of its commands.
        events: their event streams.
        here: this machine.
        access: who may ask.
        metrics: what is counted.
        gauges: what is true at the moment.
        hosts: names of the service in requests, besides localhost.
    """
    app = FastAPI(
        title="ScriptService",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.bodies = BodyBudget()
    app.state.commands = commands
    app.state.outputs = outputs
    app.state.events = events
    app.state.here = here
    app.state.metrics = metrics
    app.state.gauges = gauges
    app.state.sessions = access.sessions
    app.state.sign_in = access.sign_in
    app.state.page = Page(package_directory())
    routers = [
        module.router
        for module in (
            command_routes,
            output_routes,
            event_routes,
            host_routes,
            health_routes,
            metrics_routes,
            session_routes,
            page_routes,
        )
    ]
    # FastAPI keeps routers whole and does not say what is in them; a 405 has to.
    app.state.routes = [route for router in routers for route in router.routes]
    for router in routers:
        app.include_router(router)
    problem_responses.install(app)
    openapi.install(app)
    # Around the application rather than in it: the hot route leaves the application out.
    checked = TokenCheck(SubmitRoute(app), access.tokens, access.sessions)
    return Meter(HeadAsGet(Door(checked, hosts)), app.state.routes, metrics.answered)
