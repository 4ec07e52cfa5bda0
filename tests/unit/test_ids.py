"""Ids of commands."""

import re
import time
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptservice.ids import id_ending, id_range, new_id, parse_id

TEXT = "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55"


def test_new_ids_are_uuids_of_version_7_that_ascend() -> None:
    made = [new_id() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert {(each.version, each.variant) for each in made} == {(7, uuid4().variant)}


def test_a_new_id_holds_the_time_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = new_id().int >> 80
    assert before <= made <= time.time_ns() // 1_000_000


@given(st.uuids())
def test_an_id_is_parsed_from_its_text(identifier: UUID) -> None:
    assert parse_id(str(identifier)) == identifier
    assert parse_id(str(identifier).upper()) == identifier


@pytest.mark.parametrize(
    "text",
    ["", "x", TEXT[:-1], f"{TEXT}0", f"{TEXT}\n", f" {TEXT}", f"{{{TEXT}}}", f"urn:uuid:{TEXT}",
     TEXT.replace("-", ""), TEXT.replace("9", "g"), TEXT.replace("0", "٠"), f"-{TEXT[:-1]}"],
)  # fmt: skip
def test_other_forms_of_an_id_are_refused(text: str) -> None:
    assert parse_id(text) is None


@given(st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    found = parse_id(text)
    assert found is None or re.sub("[^-]", "x", text) == re.sub("[^-]", "x", TEXT)


@given(st.uuids(), st.integers(8, 36))
def test_an_id_lies_in_the_range_of_its_beginning_and_has_its_end(
    identifier: UUID, length: int
) -> None:
    text = str(identifier)
    span, digits = id_range(text[:length]), id_ending(text[-length:])
    assert span is not None
    assert span[0] <= identifier <= span[1]
    assert digits is not None
    assert identifier.hex.endswith(digits)


@given(st.text("0123456789abcdef-", min_size=8, max_size=36), st.uuids())
def test_a_range_has_no_id_with_another_beginning(part: str, identifier: UUID) -> None:
    span = id_range(part)
    inside = span is not None and span[0] <= identifier <= span[1]
    assert inside == str(identifier).startswith(part)
    digits = id_ending(part)
    ends = digits is not None and identifier.hex.endswith(digits)
    assert ends == str(identifier).endswith(part)


@pytest.mark.parametrize("part", ["0199c0de7", TEXT + "0", "-199c0de", "0199c0dg", "０199c0de"])
def test_parts_that_no_id_has(part: str) -> None:
    assert id_range(part) is None
    assert part == "0199c0de7" or id_ending(part) is None
