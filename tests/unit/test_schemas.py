"""What requests may say, tried with what nobody would think of."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError as PydanticValidationError

from scriptservice.errors import FieldError, ValidationError
from scriptservice.model import Submission
from scriptservice.server.http.problem_responses import ProblemError
from scriptservice.server.routes.decoding import decode_json
from scriptservice.server.routes.request_models import (
    ListQuery,
    OutputQuery,
    StopBody,
    SubmitBody,
    field_errors,
    key_and_value,
    list_moment,
    single_and_repeated,
)

PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)
SECONDS = st.floats(min_value=0, max_value=3600)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
ENV = st.dictionaries(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True).filter(
        lambda name: not name.startswith("SCRIPTSERVICE_")
    ),
    PLAIN,
    max_size=3,
)
LABELS = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}", fullmatch=True), PLAIN, max_size=3
)
OPTIONAL: dict[str, st.SearchStrategy[Any]] = {
    "name": st.none() | PLAIN,
    "labels": LABELS,
    "interpreter": st.none() | st.lists(PLAIN.filter(bool), min_size=1, max_size=3),
    "args": st.lists(PLAIN, max_size=3),
    "env": ENV,
    "working_directory": st.none() | PLAIN.filter(bool),
    "stdin": st.none() | PLAIN,
    "interactive": st.booleans(),
    "pty": st.none()
    | st.fixed_dictionaries({"rows": st.integers(1, 65535), "cols": st.integers(1, 65535)}),
    "timeout_seconds": st.none() | POSITIVE,
    "queue_timeout_seconds": st.none() | POSITIVE,
    "grace_seconds": SECONDS | st.integers(0, 3600),
    "leftover_seconds": SECONDS,
    "output_limit_bytes": st.none() | st.integers(0, (1 << 63) - 1),
    "on_output_limit": st.sampled_from(["discard", "stop"]),
    "priority": st.integers(-100, 100),
    "host": st.none() | PLAIN.filter(bool),
}
BODIES = st.fixed_dictionaries({"script": PLAIN.filter(bool)}, optional=OPTIONAL)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN, inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def refusal(function: Callable[..., Any], *args: Any) -> tuple[FieldError, ...]:
    """Return what a function finds wrong, nothing if it does not."""
    try:
        function(*args)
    except ValidationError as error:
        return error.errors
    return ()


@given(BODIES)
def test_what_the_contract_allows_is_taken_as_it_is(body: dict[str, Any]) -> None:
    asked = decode_json(json.dumps(body).encode(), SubmitBody).submission(None)
    for name, value in body.items():
        got = getattr(asked, name)
        if name == "interpreter":
            assert value is None or list(got) == value
        elif name == "pty":
            assert (None if got is None else asdict(got)) == value
        elif name == "interactive":
            assert got == (value or bool(body.get("pty")))
        else:
            assert (list(got) if isinstance(got, tuple) else got) == value
    missing = set(OPTIONAL) - set(body) - {"interpreter"}
    if body.get("pty"):  # which implies it
        missing -= {"interactive"}
    plain = Submission(script=body["script"])
    assert {name: getattr(asked, name) for name in missing} == {
        name: getattr(plain, name) for name in missing
    }


@given(st.sampled_from(["script", *OPTIONAL, "else"]), ANYTHING)
def test_anything_else_is_refused_by_name_or_taken_as_it_is(field: str, value: Any) -> None:
    body = {"script": "echo", field: value}
    raw = json.dumps(body).encode()
    if errors := refusal(decode_json, raw, SubmitBody):
        assert all(each.field.split(".")[0] == field and each.message for each in errors)
        return
    got = getattr(decode_json(raw, SubmitBody).submission(None), field)
    assert field == "interpreter" or (list(got) if isinstance(got, tuple) else got) == value
    assert not isinstance(value, bool)


@given(st.binary(max_size=50))
def test_no_bytes_break_it(raw: bytes) -> None:
    for model in (SubmitBody, StopBody):
        with suppress(ProblemError, ValidationError):
            assert isinstance(decode_json(raw, model), model)


def refused(model: Any, fields: dict[str, Any]) -> list[str]:
    with pytest.raises(PydanticValidationError) as caught:
        model.model_validate(fields)
    return [error.field for error in field_errors(caught.value).errors]


def test_long_keys_are_cut_in_messages() -> None:
    assert len(refused(SubmitBody, {"script": "x", "y" * 1000: 1})[0]) == 80


def test_the_words_for_what_is_unknown_or_missing() -> None:
    with pytest.raises(ValidationError) as caught:
        decode_json(b'{"colour": 1}', SubmitBody)
    assert set(caught.value.errors) == {
        FieldError("script", "The script is missing"),
        FieldError("colour", "is not a known field"),
    }


@given(PLAIN, PLAIN)
def test_a_pair_is_split_at_the_first_sign(key: str, value: str) -> None:
    assert key_and_value("label", f"{key.replace('=', '')}={value}") == (
        key.replace("=", ""),
        value,
    )


def test_a_pair_needs_its_sign() -> None:
    with pytest.raises(ValidationError, match="label"):
        key_and_value("label", "team")


def test_only_lists_may_repeat() -> None:
    pairs = [("label", "a=1"), ("q", "x"), ("label", "b=2"), ("status", "failed")]
    assert single_and_repeated(pairs) == {
        "label": ["a=1", "b=2"],
        "q": "x",
        "status": ["failed"],
    }
    with pytest.raises(ValidationError, match="repeated"):
        single_and_repeated([("q", "x"), ("q", "x")])


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T01:00:00 01:00", 0),  # a plus that a form turned into a blank
        ("2026-11-23T16:20:00.123456Z", 1_795_450_800_123_456),
        ("1969-12-31T23:59:59Z", -1_000_000),
    ],
)
def test_moments(text: str, microseconds: int) -> None:
    assert list_moment("created_after", text) == microseconds


@given(st.text(max_size=40))
def test_no_text_breaks_moments(text: str) -> None:
    errors = refusal(list_moment, "created_after", text)
    assert {each.field for each in errors} <= {"created_after"}


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_moments_at_the_ends_of_time(text: str) -> None:
    assert isinstance(list_moment("created_after", text), int)


def test_no_moment_is_none() -> None:
    assert list_moment("created_after", None) is None


@pytest.mark.parametrize("tail", ["0", "5", "5l", "9" * 18, "9" * 18 + "l"])
def test_tails(tail: str) -> None:
    assert OutputQuery.model_validate({"tail": tail}).tail == tail


@pytest.mark.parametrize("tail", ["", "l", "-1", "5L", "5 l", "9" * 19, "5\n", "٥", "1e3"])
def test_what_is_no_tail(tail: str) -> None:
    assert refused(OutputQuery, {"tail": tail}) == ["tail"]


def test_unknown_parameters_are_refused() -> None:
    assert refused(ListQuery, {"page": "1"}) == ["page"]
    assert refused(OutputQuery, {"after": "1"}) == ["after"]
