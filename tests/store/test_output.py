"""Stored output compared with the plain bytes: any chunks, ranges and numbers of last lines."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scriptservice.model import Status, Stream
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
