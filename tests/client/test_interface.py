"""What the client exports, and that both clients and the service agree on names and types."""

import inspect
import re
from typing import Any, get_type_hints

import pytest
from pydantic import TypeAdapter

import scriptservice
from scriptservice import AsyncClient, Client, client, errors
from scriptservice.client import exchanges, problems
from scriptservice.client.types import LimitFields, ListFilters, SubmitFields
from scriptservice.server.routes.request_models import LimitsBody, ListQuery, SubmitBody

NAMES = {
    "AsyncClient", "AsyncFollowing", "Chunk", "Client", "Command", "Following", "Host",
    "LimitFields", "ListFilters", "Result", "Status", "SubmitFields",
}  # fmt: skip
ERRORS = {
    "AlreadyFinishedError", "BadRequestError", "ClientError", "ConnectionLostError",
    "ForbiddenError", "GoneError", "HeadersTooLargeError", "HostNotAllowedError",
    "IdempotencyMismatchError", "InternalError", "MethodNotAllowedError", "NotFinishedError",
    "NotFoundError", "NotInteractiveError", "NotRunningError", "OffsetMismatchError",
    "ProblemError", "RangeNotSatisfiableError", "ScriptServiceError", "StorageFullError",
    "StoreUnavailableError", "TooLargeError", "TooManyRequestsError", "UnauthenticatedError",
    "UnexpectedAnswerError", "UnsupportedMediaTypeError", "ValidationProblemError",
}  # fmt: skip

# What is exported


def test_the_package_exports_the_client() -> None:
    assert set(scriptservice.__all__) == NAMES | ERRORS | {"__version__"}
    assert set(client.__all__) == NAMES | ERRORS
    for name in NAMES | ERRORS:
        assert getattr(scriptservice, name) is getattr(client, name)
    with pytest.raises(AttributeError, match="no attribute 'Server'"):
        _ = scriptservice.Server


def tree(root: type[BaseException]) -> set[str]:
    """Return the names of a class of the client and of all below it."""
    below = [each for each in root.__subclasses__() if each.__module__ == problems.__name__]
    return {root.__name__}.union(*(tree(each) for each in below))


def test_every_error_of_the_client_is_exported_and_drawn() -> None:
    assert tree(errors.ScriptServiceError) == ERRORS
    drawn = re.findall(r"(\w+Error)\b +(?:\d{3}|nobody|what|the|also)", problems.__doc__ or "")
    assert {*drawn, "ScriptServiceError"} == ERRORS
    for name in ERRORS:
        assert issubclass(getattr(scriptservice, name), scriptservice.ScriptServiceError)


def test_the_drawing_has_the_statuses_of_the_service() -> None:
    from scriptservice.server.http.problem_responses import TITLES

    drawn = dict(re.findall(r"(\w+Error)\b +(\d{3})", problems.__doc__ or ""))
    for kind, (status, *_) in TITLES.items():
        assert drawn[problems.PROBLEMS[kind].__name__] == str(status), kind


# Both clients

ASYNCHRONOUS = {"Iterator": "AsyncIterator", "Following": "AsyncFollowing"}


def public(kind: type) -> dict[str, Any]:
    return {name: each for name, each in vars(kind).items() if not name.startswith("_")}


def parameters(function: Any) -> list[tuple[str, Any, Any, Any]]:
    found = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default, each.annotation) for each in found]


def test_both_clients_have_the_same_verbs() -> None:
    assert list(public(Client)) == list(public(AsyncClient))
    assert parameters(Client) == parameters(AsyncClient)


@pytest.mark.parametrize("name", [name for name in public(Client) if name != "url"])
def test_both_clients_have_the_same_signature(name: str) -> None:
    blocking, awaited = getattr(Client, name), getattr(AsyncClient, name)
    assert parameters(blocking) == parameters(awaited)
    result = inspect.signature(blocking).return_annotation
    text = result if isinstance(result, str) else inspect.formatannotation(result)
    other = inspect.signature(awaited).return_annotation
    expected = re.sub(r"\b(Iterator|Following)\b", lambda word: ASYNCHRONOUS[word[0]], text)
    assert expected == (other if isinstance(other, str) else inspect.formatannotation(other))
    assert blocking.__doc__
    assert awaited.__doc__


# Client and service


def kinds(schema: dict[str, Any], whole: dict[str, Any]) -> set[str]:
    """Return the JSON types that a schema allows, with those of its items and values."""
    if "$ref" in schema:
        return kinds(whole["$defs"][schema["$ref"].rsplit("/", 1)[1]], whole)
    if "anyOf" in schema:
        return set().union(*(kinds(each, whole) for each in schema["anyOf"]))
    inner = schema.get("items") or schema.get("additionalProperties")
    allowed = {*schema.get("enum", []), str(schema["type"])}
    return allowed | ({f"of {each}" for each in kinds(inner, whole)} if inner else set())


def test_the_fields_of_a_submit_are_those_of_the_service() -> None:
    theirs = SubmitBody.model_json_schema()
    hints = get_type_hints(SubmitFields)
    fields = {name: each for name, each in theirs["properties"].items() if name != "script"}
    assert list(hints) == list(fields)
    # Pydantic takes no TypedDict before Python 3.12.
    assert hints.pop("limits") == LimitFields | None
    limits = get_type_hints(LimitsBody)
    assert get_type_hints(LimitFields) == {name: limits[name] for name in LimitsBody.model_fields}
    del fields["limits"]
    ours = {name: TypeAdapter(kind) for name, kind in hints.items()}
    for name, schema in fields.items():
        assert kinds(ours[name].json_schema(), {}) == kinds(schema, theirs), name
        assert f"\n    {name}: " in (inspect.getdoc(SubmitFields) or ""), name


QUERY_NAMES = {"labels": "label", "text": "q", "id_part": "id", "page_size": "limit"}


def test_the_filters_of_a_list_are_those_of_the_service() -> None:
    names = {QUERY_NAMES.get(name, name) for name in get_type_hints(ListFilters)}
    assert names == ListQuery.model_fields.keys() - {"cursor"}
    filters: Any = dict.fromkeys(get_type_hints(ListFilters), "x")
    filters |= {"status": ["x"], "labels": {"x": "y"}, "page_size": 7}
    query = exchanges.list_query(**filters)
    assert {name for name, _ in query} == names
    with pytest.raises(TypeError, match="cannot list by colour"):
        exchanges.list_query(colour="red")
