"""Ids of commands."""

import re
import time
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptservice.ids import new_id, parse_id

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
def test_an_id_is_found_again_in_its_text(identifier: UUID) -> None:
    assert parse_id(str(identifier)) == identifier
    assert parse_id(str(identifier).upper()) == identifier


@pytest.mark.parametrize(
    "text",
    ["", "x", TEXT[:-1], f"{TEXT}0", f"{TEXT}\n", f" {TEXT}", f"{{{TEXT}}}", f"urn:uuid:{TEXT}",
     TEXT.replace("-", ""), TEXT.replace("9", "g"), TEXT.replace("0", "٠"), f"-{TEXT[:-1]}"],
)  # fmt: skip
def test_other_ways_to_write_one_are_none(text: str) -> None:
    assert parse_id(text) is None


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    found = parse_id(text)
    assert found is None or re.sub("[^-]", "x", text) == re.sub("[^-]", "x", TEXT)
