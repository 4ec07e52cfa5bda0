"""The service agrees with its OpenAPI document: schemathesis tries every operation."""

from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import just
from requests.adapters import HTTPAdapter
from schemathesis import GenerationMode
from schemathesis.config import GenerationConfig
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance

from support.service import MAINLY_ON_SQLITE, PATIENCE_SECONDS, Service

from .test_health_and_docs import ROUTES

pytestmark = MAINLY_ON_SQLITE  # test_odd_words.py compares the databases
EXAMPLES = 10
SHORT = 0.1  # seconds: the longest generated wait or grace period
SCRIPT = "true"
SUBMIT = "/v1/commands"
OPERATIONS = [(method, path) for path, methods in ROUTES.items() for method in sorted(methods)]

EXCLUDED = [
    # Requests that the schema allows may still be refused. The schema cannot express that query
    # parameters are refused with a JSON body, that a cursor must come from this service, that names
    # of labels and variables have a syntax, or that tail excludes offset.
    positive_data_acceptance,
]


class Guard(HTTPAdapter):
    """Refuses to send requests that would run a generated script."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        media_type = str(request.headers.get("Content-Type", "")).partition(";")[0].strip().lower()
        if (request.method, urlsplit(request.url or "").path) == ("POST", SUBMIT):
            assert media_type == "application/json" or request.body in (SCRIPT, SCRIPT.encode())
        return super().send(request, *args, **kwargs)


@pytest.fixture(scope="module")
def session() -> requests.Session:
    made = requests.Session()
    made.mount("http://", Guard())
    return made


@pytest.fixture(scope="module")
def schema(service: Service) -> BaseSchema:
    config = schemathesis.Config(seed=1)
    # The token is always sent; requests without it are not what these tests are about.
    config.projects.default.generation = GenerationConfig(with_security_parameters=False)
    # A text that is too long may make the body too large, which is refused with 413.
    rejects = config.projects.default.checks.negative_data_rejection
    rejects.expected_statuses = [*rejects.expected_statuses, "413"]
    document = service.client.get("/openapi.json").json()
    answers = document["paths"]["/v1/commands/{command_id}/events"]["get"]["responses"]
    stream = answers["200"]["content"]["text/event-stream"]
    # In the document, the schema is that of the stream, as a text; schemathesis takes it as that of
    # each event, and so checks the events.
    stream["schema"] = stream["schema"]["contentSchema"]
    return schemathesis.openapi.from_dict(document, config=config)


@pytest.fixture(scope="module")
def finished(service: Service) -> str:
    """A finished command with output."""
    return str(service.run("echo hello; echo more >&2")["id"])


def _make_harmless(fields: Any) -> None:
    """Change generated fields so that the request runs no generated script and ends soon."""
    if not isinstance(fields, dict):
        return
    for name in ("interpreter", "working_directory", "host"):
        fields.pop(name, None)
    for name in ("wait", "grace_seconds", "leftover_seconds"):
        with suppress(KeyError, TypeError, ValueError):
            if float(fields[name]) > SHORT:
                fields[name] = SHORT
    if fields.get("script") and isinstance(fields["script"], str):
        fields["script"] = SCRIPT


def _make_well_formed(query: Any) -> None:
    """Give texts the syntax that the schema cannot express, so that more requests are accepted."""
    if not isinstance(query, dict):
        return
    for name in ("label", "env"):
        if isinstance(query.get(name), list) and all(isinstance(text, str) for text in query[name]):
            query[name] = [f"k{number}={text}" for number, text in enumerate(query[name])]
    for name in ("created_after", "created_before"):
        if isinstance(query.get(name), str):
            query[name] = "2026-11-23T16:20:00Z"
    if isinstance(query.get("cursor"), str):
        del query["cursor"]


def _use_existing_ids(case: schemathesis.Case, service: Service, finished: str) -> None:
    """Replace two of three valid ids by those of existing commands."""
    try:
        number = UUID(case.path_parameters["command_id"]).int % 3
    except (KeyError, TypeError, ValueError, AttributeError):
        return
    if number == 0:
        return
    if case.method == "DELETE":
        finished = str(service.run(SCRIPT)["id"])
    elif case.path.endswith("/stop") and number == 1:
        finished = str(service.submit("exec sleep 5", grace_seconds=SHORT)["id"])
    case.path_parameters["command_id"] = finished


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_the_service_answers_as_its_document_says(
    method: str,
    path: str,
    schema: BaseSchema,
    service: Service,
    session: requests.Session,
    finished: str,
) -> None:
    operation = schema[path][method]
    described = operation.definition.raw
    modes = [GenerationMode.POSITIVE]
    if "requestBody" in described or any(
        parameter["in"] != "path" for parameter in described.get("parameters", [])
    ):  # otherwise no request can be invalid, since any text is the id of an unknown command
        modes.append(GenerationMode.NEGATIVE)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: schemathesis.Case, mode: GenerationMode) -> None:
        _make_harmless(case.query)
        _make_harmless(case.body)
        if mode is GenerationMode.POSITIVE:
            _make_well_formed(case.query)
        if path == SUBMIT and method == "post" and case.media_type != "application/json":
            case.body = SCRIPT
        _use_existing_ids(case, service, finished)
        case.call_and_validate(
            base_url=service.url,
            session=session,
            headers=service.headers,
            excluded_checks=EXCLUDED,
            timeout=PATIENCE_SECONDS,
        )

    for mode in modes:
        given(case=operation.as_strategy(generation_mode=mode), mode=just(mode))(ask)()


def test_no_operation_names_a_parameter_twice(schema: BaseSchema) -> None:
    for method, path in OPERATIONS:
        parameters = schema.raw_schema["paths"][path][method].get("parameters", [])
        names = [(parameter["in"], parameter["name"]) for parameter in parameters]
        assert len(names) == len(set(names)), (method, path)
