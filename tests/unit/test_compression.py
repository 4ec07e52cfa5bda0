"""Compressing a chunk: where it saves enough, and never with wrong bytes at the end."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.output_text import build_line, json_line, lines, random_bytes
from scriptservice.store.compression import (
    MAX_BYTES,
    MIN_BYTES,
    Compressor,
    DamagedFrameError,
    decompress,
)

COMPRESSOR = Compressor()
TEXT = lines(build_line, MAX_BYTES)
FRAME = COMPRESSOR.compress(lines(json_line, MIN_BYTES))


@pytest.mark.parametrize("line", [build_line, json_line])
@pytest.mark.parametrize("size", [MIN_BYTES, 30_000, MAX_BYTES])
def test_log_text_becomes_small_and_is_complete_again(line: object, size: int) -> None:
    data = lines(line, size)  # type: ignore[arg-type]
    frame = COMPRESSOR.compress(data)
    assert frame is not None
    assert len(frame) < 0.5 * size
    assert decompress(frame) == data


def test_small_and_oversized_chunks_are_left_as_they_are() -> None:
    assert COMPRESSOR.compress(TEXT[: MIN_BYTES - 1]) is None
    assert COMPRESSOR.compress(TEXT + b"\n") is None
    assert COMPRESSOR.compress(b"") is None


@pytest.mark.parametrize("size", [MIN_BYTES, 30_000, MAX_BYTES])
def test_what_saves_less_than_an_eighth_is_left_as_it_is(size: int) -> None:
    random_part = random_bytes(size)
    assert COMPRESSOR.compress(random_part) is None
    # A tenth of the chunk could be saved.
    zeros = size // 10
    assert COMPRESSOR.compress(random_part[zeros:] + bytes(zeros)) is None
    # A fifth of it can.
    zeros = size // 5
    assert COMPRESSOR.compress(bytes(zeros) + random_part[zeros:]) is not None


def test_a_large_chunk_that_begins_with_random_bytes_is_not_tried() -> None:
    data = random_bytes(MAX_BYTES // 2) + bytes(MAX_BYTES // 2)
    assert COMPRESSOR.compress(data) is None


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_damage_is_never_taken_for_output(data: st.DataObject) -> None:
    assert FRAME is not None
    damaged = bytearray(FRAME)
    kind = data.draw(st.sampled_from(["bit", "cut", "more", "lost"]))
    place = data.draw(st.integers(0, len(FRAME) - 1))
    if kind == "bit":
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del damaged[place:]
    elif kind == "more":
        damaged += FRAME
    else:
        del damaged[place]
    # A few bits of the frame's header carry no meaning; without them the bytes are still right.
    try:
        assert decompress(bytes(damaged)) == decompress(FRAME)
    except DamagedFrameError:
        return
    assert kind == "bit"


def test_a_damaged_size_allocates_nothing() -> None:
    huge = Compressor()._zstd
    frame = huge.compress(bytes(64 << 20), huge.FLUSH_FRAME)
    with pytest.raises(DamagedFrameError, match=f"its size would be {64 << 20}"):
        decompress(frame)


def test_one_compressor_makes_independent_frames() -> None:
    compressor = Compressor()
    rng = random.Random(1)
    pieces = [TEXT[:size] for size in (rng.randrange(MIN_BYTES, MAX_BYTES) for _ in range(8))]
    frames = [compressor.compress(piece) for piece in pieces]
    assert [decompress(frame) for frame in reversed(frames) if frame] == pieces[::-1]
