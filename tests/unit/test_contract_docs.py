"""What the documents say is what the code has."""

import json
import re
from pathlib import Path

from scriptservice.server.http import problem_responses
from scriptservice.server.routes import response_models
from scriptservice.server.routes.request_models import (
    ListQuery,
    OutputQuery,
    SignInBody,
    StopBody,
    SubmitBody,
)
from scriptservice.server.routes.route_table import ROUTES

DOCS = Path(__file__).parents[2] / "docs"


def routes() -> set[str]:
    return {f"{route.method} {route.path.replace('{command_id}', '{id}')}" for route in ROUTES}


def test_the_routes_of_the_document_are_those_of_the_code() -> None:
    text = (DOCS / "api.md").read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if re.match(r"\| `[A-Z]+ /", line)]
    assert {route for row in rows for route in re.findall(r"`([A-Z]+ [^`]+)`", row)} == routes()


def test_every_field_and_parameter_is_in_the_document() -> None:
    text = (DOCS / "api.md").read_text()
    for name in SubmitBody.model_fields:
        assert f"`{name}`" in text, name
    for name in [*ListQuery.model_fields, "wait"]:
        assert f"`?{name}=" in text, name
    for name in OutputQuery.model_fields:
        assert f"{name}=" in text, name
    for kind in problem_responses.TITLES:
        assert f"`{kind}`" in text, kind


def test_a_command_has_the_fields_of_the_document_and_of_openapi() -> None:
    text = (DOCS / "api.md").read_text()
    example = json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])
    assert (
        list(response_models.CommandJson.model_json_schema()["properties"].keys() - example.keys())
        == []
    )
    assert example.keys() == response_models.CommandJson.model_fields.keys()
    assert response_models.CommandEvent.model_fields.keys() == example.keys() - {"script"}
    item = (example.keys() - {"script", "args", "env"}) | {"script_preview"}
    assert response_models.CommandItem.model_fields.keys() == item
    for name in StopBody.model_fields:
        assert f'"{name}"' in text, name
    for name in response_models.OutputEvent.model_fields:
        assert f'"{name}"' in text, name
    for name in [*SignInBody.model_fields, *response_models.SessionJson.model_fields]:
        assert f'"{name}"' in text, name
    for name in response_models.HostJson.model_fields:
        assert f'"{name}"' in text, name
