"""Stored output compared with the plain bytes: any chunks, ranges and numbers of last lines."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from bench.output_text import build_line, lines, random_bytes
from scriptservice.errors import DamagedOutputError
from scriptservice.model import Status, Stream
from scriptservice.store.compression import MIN_BYTES, ZSTD, Compressor
from scriptservice.store.database.tables import output
from scriptservice.store.queries import deletions
from scriptservice.store.queries import output as output_store
from scriptservice.store.queries.deletions import Deletion
from scriptservice.store.queries.journal_changes import Chunk
from support.store import Store

PIECES = st.lists(
    st.tuples(
        st.sampled_from([1, 2]),
        st.lists(st.sampled_from([b"\n", b"a", b"\xff", b"line\n"]), min_size=1, max_size=6).map(
            b"".join
        ),
    ),
    max_size=12,
)


def stored(store: Store, pieces: list[tuple[int, bytes]]) -> tuple[int, dict[Stream, bytes]]:
    """Store output; return the number of its command and the bytes of each stream."""
    number = store.add(Status.RUNNING).number
    plain = {Stream.MERGED: b"", Stream.STDOUT: b"", Stream.STDERR: b""}
    chunks = []
    for which, data in pieces:
        stream = Stream.STDOUT if which == 1 else Stream.STDERR
        merged = plain[Stream.MERGED]
        chunks.append(Chunk(number, len(merged), which, len(plain[stream]), 0, data))
        plain[stream] += data
        plain[Stream.MERGED] += data
    store.store_changes(chunks=chunks)
    return number, plain


TEXT = lines(build_line, 12_000)
NOISE = random_bytes(6_000)
LARGE_PIECES = st.lists(
    st.tuples(
        st.sampled_from([1, 2]),
        st.one_of(
            st.integers(1, len(TEXT)).map(lambda size: TEXT[:size]),
            st.integers(1, len(NOISE)).map(lambda size: NOISE[:size]),
            st.integers(MIN_BYTES, 9_000).map(bytes),
        ),
        st.booleans(),
    ),
    max_size=8,
)
"""Chunks of both streams, and whether an earlier release stored them, which compressed none."""


def stored_mix(
    store: Store, pieces: list[tuple[int, bytes, bool]]
) -> tuple[int, dict[Stream, bytes], list[Chunk]]:
    """Store chunks, compressed if that pays and the piece is not of an earlier release.

    Returns:
        The number of their command, the bytes of each stream, and the chunks before compression.
    """
    number = store.add(Status.RUNNING).number
    plain = {Stream.MERGED: b"", Stream.STDOUT: b"", Stream.STDERR: b""}
    compressor = Compressor()
    chunks, rows = [], []
    for at, (which, data, old) in enumerate(pieces):
        stream = Stream.STDOUT if which == 1 else Stream.STDERR
        chunk = Chunk(number, len(plain[Stream.MERGED]), which, len(plain[stream]), at, data)
        frame = None if old else compressor.compress(data)
        chunks.append(chunk)
        rows.append(chunk if frame is None else replace(chunk, data=frame, compression=ZSTD))
        plain[stream] += data
        plain[Stream.MERGED] += data
    store.store_changes(chunks=rows)
    return number, plain, chunks


def last_lines(data: bytes, count: int) -> bytes:
    lines = data.split(b"\n")
    whole = [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    return b"".join(whole[len(whole) - count :] if count < len(whole) else whole)


same_database = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25
)


@given(PIECES, st.sampled_from(Stream), st.integers(0, 80), st.integers(0, 80))
@same_database
def test_a_range_is_a_slice(
    store: Store, pieces: list[tuple[int, bytes]], stream: Stream, start: int, end: int
) -> None:
    number, plain = stored(store, pieces)
    got = store.read(output_store.read, number, stream, start, end)
    assert got == plain[stream][start:end]


@given(LARGE_PIECES, st.data())
@same_database
def test_a_range_of_compressed_and_other_chunks_is_a_slice(
    store: Store, pieces: list[tuple[int, bytes, bool]], data: st.DataObject
) -> None:
    number, plain, chunks = stored_mix(store, pieces)
    for stream in Stream:
        size = len(plain[stream])
        start, end = (data.draw(st.integers(0, size + 10)) for _ in range(2))
        got = store.read(output_store.read, number, stream, start, end)
        assert got == plain[stream][start:end]
        count = data.draw(st.integers(0, 300))
        begin = start_of_last_lines(store, number, stream, size, count)
        assert plain[stream][begin:] == (last_lines(plain[stream], count) if count else b"")
    start, end = sorted(data.draw(st.integers(0, len(plain[Stream.MERGED]) + 10)) for _ in range(2))
    expected = [cut(chunk, start, end) for chunk in chunks]
    got = store.read(output_store.chunks, number, start, end)
    assert got == [chunk for chunk in expected if chunk.data]


def cut(chunk: Chunk, start: int, end: int) -> Chunk:
    skipped = max(0, start - chunk.position)
    return replace(
        chunk,
        position=chunk.position + skipped,
        stream_offset=chunk.stream_offset + skipped,
        data=chunk.data[skipped : max(0, end - chunk.position)],
    )


@pytest.mark.parametrize("damage", ["bit", "cut", "unknown", "empty"])
def test_a_damaged_chunk_is_an_error_that_names_the_command(store: Store, damage: str) -> None:
    command = store.add(Status.RUNNING)
    frame = Compressor().compress(TEXT)
    assert frame is not None
    size = len(TEXT)
    chunks = [
        Chunk(command.number, size * place, 1, size * place, 0, frame, ZSTD) for place in range(3)
    ]
    store.store_changes(chunks=chunks)
    data = {
        "bit": frame[:90] + bytes([frame[90] ^ 1]) + frame[91:],
        "cut": frame[:-1],
        "unknown": frame,
        "empty": b"",
    }[damage]
    values = {"data": data, "compression": 7 if damage == "unknown" else ZSTD}
    with store.database.writing.begin() as connection:
        statement = update(output).where(output.c.position == size).values(**values)
        assert connection.execute(statement).rowcount == 1
    named = f"the output of command {command.id}: the chunk .* at position {size} is damaged"
    for stream in (Stream.MERGED, Stream.STDOUT):
        for start, end in ((size, size + 1), (0, 3 * size), (size - 1, size + 1)):
            with pytest.raises(DamagedOutputError, match=named):
                store.read(output_store.read, command.number, stream, start, end)
        with pytest.raises(DamagedOutputError, match=named):
            start_of_last_lines(store, command.number, stream, 3 * size, 1000)
        # What is not damaged can be read.
        for start in (0, 2 * size):
            got = store.read(output_store.read, command.number, stream, start, start + size)
            assert got == TEXT
    with pytest.raises(DamagedOutputError, match=named):
        store.read(output_store.chunks, command.number, 0, 3 * size)
    assert [chunk.data for chunk in store.read(output_store.chunks, command.number, 0, size)] == [
        TEXT
    ]


@given(PIECES, st.sampled_from(Stream), st.integers(0, 15))
@same_database
def test_the_beginning_of_the_last_lines(
    store: Store, pieces: list[tuple[int, bytes]], stream: Stream, count: int
) -> None:
    number, plain = stored(store, pieces)
    data = plain[stream]
    start = start_of_last_lines(store, number, stream, len(data), count)
    assert data[start:] == (last_lines(data, count) if count else b"")


def start_of_last_lines(store: Store, number: int, stream: Stream, end: int, count: int) -> int:
    search = output_store.LastLines(number, stream, end, count)
    while search.start is None:
        store.read(search.step)
    return search.start


def test_a_step_back_through_much_output_reads_a_bounded_part(store: Store) -> None:
    size = 5 << 20
    number = store.add(Status.RUNNING).number
    piece = b"x" * output_store.CHUNK_BYTES
    places = range(0, size, len(piece))
    store.store_changes(chunks=[Chunk(number, place, 1, place, 0, piece) for place in places])
    search = output_store.LastLines(number, Stream.MERGED, size, 1000)
    before = size
    while search.start is None:
        store.read(search.step)
        assert before - search.at <= 1 << 20
        before = search.at
    assert search.start == 0


def test_last_lines_that_begin_far_back(store: Store) -> None:
    pieces = [(1, b"first\n"), (2, b"x" * 300_000), (1, b"second\n" + b"y" * 200_000), (1, b"\n")]
    number, plain = stored(store, pieces)
    for stream, count in itertools.product(Stream, range(5)):
        data = plain[stream]
        start = start_of_last_lines(store, number, stream, len(data), count)
        assert data[start:] == (last_lines(data, count) if count else b"")


def test_the_last_lines_before_an_earlier_end(store: Store) -> None:
    number, _ = stored(store, [(1, b"a\nb\n"), (1, b"c\nd\n")])
    for end, start in ((8, 6), (7, 6), (6, 4), (5, 4), (4, 2), (1, 0)):
        found = start_of_last_lines(store, number, Stream.MERGED, end, 1)
        assert found == start


def test_a_range_ends_at_a_gap(store: Store) -> None:
    number = store.add(Status.RUNNING).number
    chunks = [Chunk(number, 0, 1, 0, 0, b"abc"), Chunk(number, 5, 1, 5, 0, b"fgh")]
    store.store_changes(chunks=chunks)
    for stream in (Stream.MERGED, Stream.STDOUT):
        assert store.read(output_store.read, number, stream, 1, 8) == b"bc"
        assert store.read(output_store.read, number, stream, 5, 8) == b"fgh"
        assert store.read(output_store.read, number, stream, 4, 8) == b""


def test_the_output_of_two_commands_is_separate(store: Store) -> None:
    first, _ = stored(store, [(1, b"first")])
    second, _ = stored(store, [(1, b"second")])
    for stream in (Stream.MERGED, Stream.STDOUT):
        assert store.read(output_store.read, first, stream, 0, 99) == b"first"
        assert store.read(output_store.read, second, stream, 0, 99) == b"second"
        assert store.read(output_store.read, second + 1000, stream, 0, 99) == b""


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 200])
def test_only_deleted_output_is_removed_step_by_step(store: Store, count: int) -> None:
    doomed, kept = store.add(labels={"a": "b"}), store.add()
    store.set(doomed, status="succeeded")
    for command, pieces in ((doomed, count), (kept, 3)):
        chunks = [Chunk(command.number, at, 1, at, 0, b"x") for at in range(pieces)]
        store.store_changes(chunks=chunks)
    store.write(deletions.mark_deleted, Deletion(doomed.id, 1))
    assert store.read(deletions.deleted_numbers) == [doomed.number]
    rounds = 0
    while store.write(deletions.remove_some, doomed.number) != [True]:
        rounds += 1
        assert store.count("commands") == 2  # a command stays until all its output is removed
    assert rounds == count // 64
    assert store.write(deletions.remove_some, doomed.number) == [True]
    assert store.count("output") == 3
    assert (store.count("commands"), store.count("inputs"), store.count("labels")) == (1, 1, 0)
    assert store.read(deletions.deleted_numbers) == []
    assert store.find(kept.id) == kept
