"""Frames between keeper and child, in whatever pieces the socket returns them."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptservice.protocol.frames import (
    MAX_FRAME_BYTES,
    FrameBuffer,
    SpawnSpec,
    encode,
    recorded_frame,
    stop_frame,
)

# JSON in UTF-8 cannot contain lone surrogates, and no submitted text does.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
FRAMES = st.lists(
    st.dictionaries(
        TEXT,
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
            max_leaves=5,
        ),
        max_size=4,
    ),
    max_size=5,
)


@given(FRAMES, st.data())
def test_frames_survive_any_fragmentation(
    frames: list[dict[str, Any]], data: st.DataObject
) -> None:
    raw = b"".join(map(encode, frames))
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=20).map(sorted))
    buffer = FrameBuffer()
    got: list[dict[str, Any]] = []
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        got += buffer.feed(raw[start:end])
    assert got == frames


def test_frames_arrive_byte_by_byte() -> None:
    frames = [{"type": "ping", "number": number, "ä": "€"} for number in range(3)]
    buffer = FrameBuffer()
    got = [frame for byte in b"".join(map(encode, frames)) for frame in buffer.feed(bytes([byte]))]
    assert got == frames


def test_a_frame_is_yielded_as_soon_as_it_is_complete() -> None:
    buffer = FrameBuffer()
    raw = encode({"a": 1})
    assert list(buffer.feed(raw[:-1])) == []
    assert list(buffer.feed(raw[-1:] + raw[:1])) == [{"a": 1}]
    assert list(buffer.feed(raw[1:])) == [{"a": 1}]


def test_a_frame_is_yielded_once_even_if_iteration_stops() -> None:
    buffer = FrameBuffer()
    for frame in buffer.feed(encode({"a": 1}) + encode({"a": 2})):
        assert frame == {"a": 1}
        break
    assert list(buffer.feed(b"")) == [{"a": 2}]


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack("<I", MAX_FRAME_BYTES + 1),
        struct.pack("<I", 2) + b"{]",
        struct.pack("<I", 0),
        struct.pack("<I", 1) + b"\xff",
    ],
)
def test_an_invalid_frame_is_an_error(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's and our own
        list(FrameBuffer().feed(raw))


def test_a_spawn_spec_survives_its_frame() -> None:
    spec = SpawnSpec(
        id="0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55",
        script="echo ä\n",
        interpreter=["/bin/bash", "-e"],
        args=["a", ""],
        env={"A": "1"},
        stdin="in\0put",
        working_directory="private",
        timeout_seconds=1.5,
        grace_seconds=0,
        leftover_seconds=3,
        output_limit_bytes=7,
        on_output_limit="stop",
        limits={"cpu_seconds": 1.5, "nice": 3},
    )
    (frame,) = FrameBuffer().feed(encode(spec.to_frame()))
    assert frame["type"] == "spawn"
    assert SpawnSpec.from_frame(frame) == spec


def test_a_frame_of_an_earlier_server_has_the_defaults() -> None:
    spec = SpawnSpec("0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55", "true", ["sh"])
    frame = spec.to_frame()
    del frame["limits"]
    assert SpawnSpec.from_frame(frame) == spec
    del frame["script"]
    with pytest.raises(TypeError):
        SpawnSpec.from_frame(frame)


def test_the_other_requests() -> None:
    assert stop_frame("x", "SIGTERM", 2) == {
        "type": "stop",
        "id": "x",
        "signal": "SIGTERM",
        "grace_seconds": 2,
    }
    assert recorded_frame(9) == {"type": "recorded", "position": 9}
