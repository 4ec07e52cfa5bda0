"""Cursors of lists: what is put in comes out, and nothing else does."""

import base64
import hashlib
import json
from contextlib import suppress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scriptservice.errors import ValidationError
from scriptservice.model import Filter, Status
from scriptservice.server.routes.commands import _cursor, _cursor_number

TEXT = st.text(max_size=10)
FILTERS = st.builds(
    Filter,
    statuses=st.lists(st.sampled_from(Status), unique=True).map(tuple),
    labels=st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
    text=st.none() | TEXT,
    host=st.none() | TEXT,
    created_after=st.none() | st.integers(),
    created_before=st.none() | st.integers(),
    id_part=st.none() | TEXT,
)
NUMBERS = st.integers(1, (1 << 62) - 1)


@given(NUMBERS, FILTERS)
def test_a_cursor_brings_back_its_number(number: int, wanted: Filter) -> None:
    cursor = _cursor(number, wanted)
    assert cursor.isascii()
    assert not set(cursor) & set("+/=&?# ")
    assert _cursor_number(cursor, wanted) == number


@given(NUMBERS, FILTERS, FILTERS)
def test_a_cursor_of_other_filters_is_refused(number: int, wanted: Filter, other: Filter) -> None:
    assume(wanted != other)
    with pytest.raises(ValidationError, match="other filters"):
        _cursor_number(_cursor(number, wanted), other)


def test_a_cursor_of_a_release_that_knew_no_part_of_an_id_is_good() -> None:
    """A client that goes through a list goes on through an upgrade."""
    wanted = Filter(statuses=(Status.FAILED,), text="x, id_part=None)")
    old = repr(wanted).removesuffix(", id_part=None)") + ")"
    fingerprint = hashlib.sha256(old.encode()).hexdigest()[:16]
    text = json.dumps([7, fingerprint])
    assert _cursor_number(base64.urlsafe_b64encode(text.encode()).decode(), wanted) == 7


@given(st.text())
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="cursor"):
        _cursor_number(text, Filter())


@given(NUMBERS, st.data())
def test_a_cursor_that_was_changed_is_refused_or_another_place(
    number: int, data: st.DataObject
) -> None:
    cursor = _cursor(number, Filter())
    at = data.draw(st.integers(0, len(cursor) - 1))
    changed = cursor[:at] + data.draw(st.characters()) + cursor[at + 1 :]
    with suppress(ValidationError):
        assert 0 < _cursor_number(changed, Filter()) < 1 << 62
