"""The declared routes: each has a scope, and the token check knows which of them are open."""

from dataclasses import replace
from typing import Any

import pytest

from scriptservice.server.access.authentication import is_open
from scriptservice.server.application import build_router, openapi_document
from scriptservice.server.routes.route import Access
from scriptservice.server.routes.route_table import ROUTES


def test_a_route_without_a_scope_is_refused() -> None:
    services: Any = None
    build_router(ROUTES, services)
    without = replace(ROUTES[0], access=None)
    with pytest.raises(ValueError, match="POST /v1/commands: its route has no scope"):
        build_router([*ROUTES[1:], without], services)


def test_no_two_routes_have_one_method_and_path() -> None:
    places = [(route.method, route.path) for route in ROUTES]
    assert len(places) == len(set(places))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_the_token_check_lets_through_what_the_table_declares_open(route: Any) -> None:
    path = route.path.replace("{command_id}", "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55")
    path = path.replace("{name}", "index.js")
    assert is_open(route.method, path) == (route.access is Access.OPEN)


def test_each_route_in_the_document_says_what_it_needs() -> None:
    document = openapi_document()
    for route in ROUTES:
        if route.operation is not None:
            operation = document["paths"][route.path][route.method.lower()]
            assert (operation["security"] != []) == (route.access is not Access.OPEN)
            assert operation["description"]
