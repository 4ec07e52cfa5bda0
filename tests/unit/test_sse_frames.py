"""Output as Server-Sent Events: every byte once; UTF-8 as text."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from scriptservice.server.output.sse_frames import ADJACENT_MICROSECONDS, output_frames
from scriptservice.store.queries.journal_changes import Chunk
from support.sse import Event, assert_contiguous, of_stream, parse

LATER = ADJACENT_MICROSECONDS + 1
TEXT = st.text(st.characters(exclude_categories=["Cs"])).map(str.encode)
SOME = st.one_of(
    TEXT,
    st.binary(max_size=40),
    st.text("aé€😀\n\0\r\x1b", max_size=20).map(str.encode),
    st.lists(st.sampled_from([b"\xc3", b"\xa9", b"\xe2\x82", b"\xac", b"\xf0\x9f", b"a", b"\xff"]))
    .map(b"".join),
)  # fmt: skip


@st.composite
def stored_chunks(draw: st.DrawFn) -> list[Chunk]:
    """Chunks of two streams, split anywhere and interleaved, as they are stored."""
    streams = {1: draw(SOME), 2: draw(SOME)}
    offsets = {1: 0, 2: 0}
    time, position = 1_000_000_000_000_000, 0
    found = []
    while any(offsets[number] < len(streams[number]) for number in streams):
        number = draw(st.sampled_from([n for n in streams if offsets[n] < len(streams[n])]))
        size = draw(st.integers(1, len(streams[number]) - offsets[number]))
        data = streams[number][offsets[number] : offsets[number] + size]
        found.append(Chunk(1, position, number, offsets[number], time, data))
        offsets[number] += size
        position += size
        time += draw(st.sampled_from([0, 1, ADJACENT_MICROSECONDS, LATER]))
    return found


def events_of(chunks: list[Chunk], *, hold: bool = False) -> list[Event]:
    return parse(output_frames(chunks, chunks[0].position if chunks else 0, hold=hold).data)


def from_position(chunks: list[Chunk], position: int) -> list[Chunk]:
    """Return the chunks from a position on."""
    found = []
    for each in chunks:
        skipped = max(0, position - each.position)
        if skipped < len(each.data):
            found.append(
                Chunk(
                    1, each.position + skipped, each.stream, each.stream_offset + skipped,
                    each.time, each.data[skipped:],
                )
            )  # fmt: skip
    return found


@given(stored_chunks())
def test_events_hold_exactly_the_bytes_of_each_stream_and_of_both(chunks: list[Chunk]) -> None:
    events = events_of(chunks)
    assert assert_contiguous(events, 0) == b"".join(chunk.data for chunk in chunks)
    for number, name in ((1, "stdout"), (2, "stderr")):
        wanted = b"".join(chunk.data for chunk in chunks if chunk.stream == number)
        assert of_stream(events, name) == wanted


@given(stored_chunks(), st.data())
def test_events_from_any_position_hold_exactly_the_rest(
    chunks: list[Chunk], data: st.DataObject
) -> None:
    whole = b"".join(chunk.data for chunk in chunks)
    position = data.draw(st.integers(0, len(whole)))
    frames = output_frames(from_position(chunks, position), position, hold=False)
    assert frames.position == len(whole)
    assert frames.held_bytes == 0
    assert assert_contiguous(parse(frames.data), position) == whole[position:]


@given(stored_chunks(), st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=8))
def test_in_several_reads_with_held_bytes_nothing_is_lost_or_repeated(
    chunks: list[Chunk], steps: list[tuple[int, bool]]
) -> None:
    whole = b"".join(chunk.data for chunk in chunks)
    position, seen = 0, b""
    for stored, hold in [*sorted(steps), (len(whole), False)]:
        known = [chunk for chunk in from_position(chunks, position) if chunk.position < stored]
        frames = output_frames(known, position, hold=hold)
        assert 0 <= frames.held_bytes <= (3 if hold else 0)
        seen += assert_contiguous(parse(frames.data), position)
        position = frames.position
        assert len(seen) == position
    assert seen == whole


@given(stored_chunks())
def test_utf_8_is_text_and_other_bytes_are_base64(chunks: list[Chunk]) -> None:
    for event in events_of(chunks):
        try:
            event.bytes.decode()
            is_text = True
        except UnicodeDecodeError:
            is_text = False
        assert ("text" in event.data) == is_text


@given(TEXT, st.data())
@example("€".encode(), None)
def test_text_stays_text_however_it_was_split(text: bytes, data: st.DataObject | None) -> None:
    cuts = [1, 2] if data is None else data.draw(st.lists(st.integers(0, len(text)), max_size=9))
    edges = sorted({0, len(text), *cuts})
    chunks = [
        Chunk(1, start, 1, start, 10**15 + index * ADJACENT_MICROSECONDS, text[start:end])
        for index, (start, end) in enumerate(pairwise(edges))
    ]
    events = events_of(chunks)
    assert all("text" in event.data for event in events)
    assert len(events) == min(1, len(text))


def chunk(
    position: int, data: bytes, *, stream: int = 1, offset: int | None = None, at: int
) -> Chunk:
    return Chunk(1, position, stream, position if offset is None else offset, 10**15 + at, data)


def shapes(chunks: list[Chunk]) -> list[tuple[str, bytes]]:
    return [("text" if "text" in e.data else "base64", e.bytes) for e in events_of(chunks)]


def test_pieces_of_a_character_read_too_far_apart_are_base64() -> None:
    late = [chunk(0, b"ab\xe2\x82", at=0), chunk(4, b"\xaccd", at=LATER)]
    assert shapes(late) == [
        ("text", b"ab"), ("base64", b"\xe2\x82"), ("base64", b"\xac"), ("text", b"cd"),
    ]  # fmt: skip
    soon = [chunk(0, b"ab\xe2\x82", at=0), chunk(4, b"\xaccd", at=ADJACENT_MICROSECONDS)]
    assert shapes(soon) == [("text", "ab€cd".encode())]


def test_pieces_of_a_character_around_the_other_stream_are_base64() -> None:
    chunks = [
        chunk(0, b"a\xc3", at=0),
        chunk(2, b"!", stream=2, offset=0, at=1),
        chunk(3, b"\xa9b", offset=2, at=2),
    ]
    assert shapes(chunks) == [
        ("text", b"a"), ("base64", b"\xc3"), ("text", b"!"), ("base64", b"\xa9"), ("text", b"b"),
    ]  # fmt: skip


def test_an_incomplete_character_is_held_only_if_allowed() -> None:
    incomplete = [chunk(0, b"a\xf0\x9f\x98", at=0)]
    held = output_frames(incomplete, 0, hold=True)
    assert (held.position, held.held_bytes) == (1, 3)
    assert [event.bytes for event in parse(held.data)] == [b"a"]
    everything = output_frames(incomplete, 0, hold=False)
    assert (everything.position, everything.held_bytes) == (4, 0)
    only = output_frames([chunk(7, b"\xc3", at=0)], 7, hold=True)
    assert (only.data, only.position, only.held_bytes) == (b"", 7, 1)
    # These bytes begin no character, so they are not held.
    assert output_frames([chunk(0, b"\xc0", at=0)], 0, hold=True).held_bytes == 0
    assert output_frames([chunk(0, b"\x80", at=0)], 0, hold=True).held_bytes == 0


def test_output_cannot_forge_an_event() -> None:
    evil = b"\n\ndata: x\n\nid: 99\r\nevent: end\r\n\r\n\xe2\x80\xa8"
    assert shapes([chunk(0, evil, at=0)]) == [("text", evil)]
