"""The journal on a real disk: what was written is read, also after a write that was cut short."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scriptservice.keeper.journal import journal_writer
from scriptservice.keeper.journal.journal_repair import repair, scan
from scriptservice.keeper.journal.journal_writer import JournalWriter
from scriptservice.keeper.journal.stored_position import StoredPosition
from scriptservice.keeper.system.linux import boot_id
from scriptservice.protocol.journal_format import (
    HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Kind,
    segment_bases,
    segment_path,
)
from scriptservice.protocol.journal_reader import (
    JournalDamagedError,
    JournalGapError,
    JournalReader,
)

IDS = [uuid4().bytes for _ in range(3)]


class Entry(NamedTuple):
    """A record to write: output has bytes, every other kind has fields."""

    kind: Kind
    id: bytes
    stream: int
    position: int
    content: Any


CONTROL = st.builds(
    Entry,
    st.sampled_from([kind for kind in Kind if kind not in (Kind.OUTPUT, Kind.SNAPSHOT)]),
    st.sampled_from(IDS),
    st.just(0),
    st.integers(0, 2**63),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20), max_size=3),
)
OUTPUT = st.builds(
    Entry,
    st.just(Kind.OUTPUT),
    st.sampled_from(IDS),
    st.sampled_from([1, 2]),
    st.integers(0, 2**63),
    st.binary(min_size=1, max_size=200),
)
ENTRIES = st.lists(CONTROL | OUTPUT, max_size=12)


@contextmanager
def directory() -> Iterator[str]:
    path = tempfile.mkdtemp(prefix="scriptservice-journal-")
    yield path
    shutil.rmtree(path)


def writer_in(path: str) -> JournalWriter:
    return JournalWriter(path, reserve_bytes=0, snapshot=lambda: {"open": ["snapshot"]})


def write(writer: JournalWriter, entry: Entry) -> None:
    if entry.kind != Kind.OUTPUT:
        writer.append(entry.kind, entry.id, entry.content, entry.position, 1)
        return
    reading, writing = os.pipe()
    os.write(writing, entry.content)
    length = len(entry.content)
    assert writer.splice(reading, length, entry.id, entry.stream, entry.position) == length
    os.close(reading)
    os.close(writing)


def read(path: str, end: int, max_bytes: int = 1 << 20, start: int = 0) -> list[Entry]:
    reader = JournalReader(path)
    found: list[Entry] = []
    while True:
        records, after = reader.read(start, end, max_bytes)
        if not records:
            break
        assert records[-1].end == after
        for record in records:
            content = bytes(record.data) if record.kind == Kind.OUTPUT else record.fields()
            found.append(
                Entry(record.kind, record.command_id, record.stream, record.position, content)
            )
        start = after
    reader.close()
    return found


@given(ENTRIES, st.integers(HEADER_BYTES, 3000))
@settings(deadline=None, max_examples=30)
def test_what_is_written_is_read(entries: list[Entry], max_bytes: int) -> None:
    with directory() as path:
        writer = writer_in(path)
        ends = [writer.end]
        for entry in entries:
            write(writer, entry)
            ends.append(writer.end)
        assert read(path, writer.end, max_bytes) == entries
        # From the end of each record, and up to the end of each.
        for number, end in enumerate(ends):
            assert read(path, end, max_bytes) == entries[:number]
            assert read(path, writer.end, max_bytes, end) == entries[number:]
        writer.close()
        assert repair(path) == []
        again = writer_in(path)
        assert (again.id, again.end) == (writer.id, writer.end)
        again.close()


def surviving(entries: list[Entry], ends: list[int], cut: int) -> list[Entry]:
    """Return what must survive: whole records, and what arrived of a cut output record."""
    left = [entry for entry, end in zip(entries, ends[1:], strict=True) if end <= cut]
    if len(left) < len(entries):
        torn, start = entries[len(left)], ends[len(left)]
        arrived = cut - start - HEADER_BYTES
        if torn.kind == Kind.OUTPUT and arrived > 0:
            left.append(torn._replace(content=torn.content[:arrived]))
    return left


@given(st.lists(CONTROL | OUTPUT, min_size=1, max_size=4))
@settings(deadline=None, max_examples=15)
def test_records_before_a_cut_survive_it(entries: list[Entry]) -> None:
    with directory() as path:
        writer = writer_in(path)
        ends = [writer.end]
        for entry in entries:
            write(writer, entry)
            ends.append(writer.end)
        writer.close()
        segment = Path(segment_path(path, 0))
        whole = segment.read_bytes()
        more = Entry(Kind.CLOSED, IDS[0], 0, 7, {"after": "the cut"})
        for cut in range(max(ends[0], len(whole) - 300), len(whole) + 1):
            segment.write_bytes(whole[:cut])
            repair(path)
            assert repair(path) == []  # once is enough
            wanted = surviving(entries, ends, cut)
            again = writer_in(path)
            assert read(path, again.end) == wanted
            write(again, more)
            assert read(path, again.end) == [*wanted, more]
            again.close()


def test_garbage_at_the_end_is_cut_off() -> None:
    entries = [
        Entry(Kind.STARTED, IDS[0], 0, 0, {"pid": 1}),
        Entry(Kind.OUTPUT, IDS[0], 1, 0, b"x"),
    ]
    with directory() as path:
        writer = writer_in(path)
        for entry in entries:
            write(writer, entry)
        writer.close()
        with open(segment_path(path, 0), "ab") as file:
            file.write(b"\xff" * 100)
        assert len(repair(path)) == 1
        assert read(path, writer.end) == entries
        assert os.path.getsize(segment_path(path, 0)) == writer.end


def test_a_segment_without_a_header_is_set_aside() -> None:
    with directory() as path:
        writer = writer_in(path)
        write(writer, Entry(Kind.STARTED, IDS[0], 0, 0, {}))
        writer.close()
        Path(segment_path(path, writer.end)).write_bytes(b"half a hea")
        assert len(repair(path)) == 1
        assert segment_bases(path) == [0]
        again = writer_in(path)
        assert again.end == writer.end
        again.close()


def test_what_follows_a_damaged_record_is_set_aside() -> None:
    entries = [Entry(Kind.STARTED, IDS[0], 0, 0, {"pid": number}) for number in range(5)]
    with directory() as path:
        writer = writer_in(path)
        ends = [writer.end]
        for entry in entries:
            write(writer, entry)
            ends.append(writer.end)
        writer.close()
        segment = Path(segment_path(path, 0))
        whole = segment.read_bytes()
        with segment.open("r+b") as file:
            file.seek(ends[2] + HEADER_BYTES)
            file.write(b"x")
        (note,) = repair(path)
        assert f"{ends[2]:020d}.damaged" in note
        assert read(path, ends[2]) == entries[:2]
        assert segment.stat().st_size == ends[2]
        kept = (Path(path) / f"{ends[2]:020d}.damaged").read_bytes()
        assert len(kept) == len(whole) - ends[2]
        assert kept[-100:] == whole[-100:]
        assert repair(path) == []


@pytest.mark.parametrize("offset", [0, 9, 25, 33])
def test_a_damaged_segment_header_is_rewritten(offset: int) -> None:
    """The records after it tell which scripts may still run."""
    entries = [Entry(Kind.STARTED, IDS[0], 0, 0, {"pid": 1})]
    with directory() as path:
        writer = writer_in(path)
        write(writer, entries[0])
        writer.close()
        with open(segment_path(path, 0), "r+b") as file:
            file.seek(offset)
            (byte,) = file.read(1)
            file.seek(offset)
            file.write(bytes([byte ^ 0xA5]))
        (note,) = repair(path)
        assert "rewrote the header" in note
        again = writer_in(path)
        assert (again.id == writer.id) == (not 8 <= offset < 24)
        assert read(path, again.end) == entries
        again.close()


@pytest.mark.parametrize("boot", ["another", boot_id()])
def test_zeros_left_by_a_power_cut_are_not_output(boot: str) -> None:
    entries = [
        Entry(Kind.KEEPER, bytes(16), 0, 0, {"identity": {"boot": boot}}),
        Entry(Kind.OUTPUT, IDS[0], 1, 0, b"printed" + bytes(50)),
    ]
    with directory() as path:
        writer = writer_in(path)
        for entry in entries:
            write(writer, entry)
        writer.close()
        repair(path)
        again = writer_in(path)
        expected = b"printed" if boot == "another" else b"printed" + bytes(50)
        assert read(path, again.end)[1].content == expected
        again.close()


def test_other_files_are_not_segments() -> None:
    with directory() as path:
        for name in ("x.journal", "12.journal", f"{7:020d}.journal.damaged", "recorded"):
            (Path(path) / name).touch()
        assert segment_bases(path) == []


def test_a_damaged_stored_position_counts_as_none() -> None:
    with directory() as path:
        file = Path(path) / "recorded"
        assert StoredPosition(path).read() == 0
        StoredPosition(path).write(1 << 40)
        assert StoredPosition(path).read() == 1 << 40
        whole = file.read_bytes()
        for damaged in (whole[:-1], whole[:3], b"\xff" * 12, whole[:2] + b"x" + whole[3:]):
            file.write_bytes(damaged)
            assert StoredPosition(path).read() is None
        file.write_bytes(whole[:8])  # of an earlier release
        assert StoredPosition(path).read() == 1 << 40


# Segments


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_writer, "SEGMENT_BYTES", 2000)


def numbered(count: int) -> list[Entry]:
    return [
        Entry(Kind.OUTPUT, IDS[number % 3], 1, number, b"line %d\n" % number * 10)
        for number in range(count)
    ]


def without_snapshots(entries: list[Entry]) -> list[Entry]:
    snapshots = [entry for entry in entries if entry.kind == Kind.SNAPSHOT]
    assert all(entry.content == {"open": ["snapshot"]} for entry in snapshots)
    return [entry for entry in entries if entry.kind != Kind.SNAPSHOT]


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("max_bytes", [HEADER_BYTES, 500, 1 << 20])
def test_records_are_read_across_segments(max_bytes: int) -> None:
    entries = numbered(200)
    with directory() as path:
        writer = writer_in(path)
        for entry in entries:
            write(writer, entry)
        assert len(segment_bases(path)) > 5
        assert writer.first == 0
        assert without_snapshots(read(path, writer.end, max_bytes)) == entries
        writer.close()
        assert repair(path) == []
        again = writer_in(path)
        write(again, entries[0])
        assert without_snapshots(read(path, again.end)) == [*entries, entries[0]]
        again.close()


@pytest.mark.usefixtures("small_segments")
def test_only_stored_segments_are_dropped() -> None:
    with directory() as path:
        writer = writer_in(path)
        ends = []
        for entry in numbered(200):
            write(writer, entry)
            ends.append(writer.end)
        for recorded in ends:
            writer.drop(recorded)
            bases = segment_bases(path)
            assert writer.first == bases[0] <= recorded
            assert len(bases) == 1 or bases[1] > recorded
            left = [entry for entry, end in zip(numbered(200), ends, strict=True) if end > recorded]
            assert without_snapshots(read(path, writer.end, start=recorded)) == left
        held = sum(os.path.getsize(segment_path(path, base)) for base in segment_bases(path))
        assert held == writer.end - writer.first
        with pytest.raises(JournalGapError) as caught:
            JournalReader(path).read(0, writer.end, 1000)
        assert caught.value.first == writer.first
        writer.close()


def test_a_long_segment_is_replaced_once_it_is_stored() -> None:
    with directory() as path:
        writer = writer_in(path)
        for number in range(90):
            write(writer, Entry(Kind.OUTPUT, IDS[0], 1, number, b"x" * 60_000))
        end = writer.end
        writer.drop(end - 1)
        assert writer.first == 0
        writer.drop(end)
        assert writer.first == end
        assert without_snapshots(read(path, writer.end, start=end)) == []
        writer.close()


@pytest.mark.usefixtures("small_segments")
def test_damage_in_the_middle_is_reported_with_the_next_position() -> None:
    with directory() as path:
        writer = writer_in(path)
        for entry in numbered(100):
            write(writer, entry)
        writer.close()
        bases = segment_bases(path)
        with open(segment_path(path, bases[1]), "r+b") as file:
            file.seek(SEGMENT_HEADER_BYTES)
            file.write(b"\xff" * 20)
        reader = JournalReader(path)
        with pytest.raises(JournalDamagedError) as caught:
            reader.read(bases[1], writer.end, 1 << 20)
        assert caught.value.next == bases[2]
        assert reader.read(caught.value.next, writer.end, 1 << 20)[0]
        reader.close()


def test_nothing_beyond_the_published_end_is_read() -> None:
    with directory() as path:
        writer = writer_in(path)
        write(writer, Entry(Kind.STARTED, IDS[0], 0, 0, {}))
        published = writer.end
        write(writer, Entry(Kind.CLOSED, IDS[0], 0, 0, {}))
        assert len(read(path, published)) == 1
        reader = JournalReader(path)
        assert reader.read(published, published, 1000) == ([], published)
        reader.close()
        writer.close()


def test_a_scan_skips_the_bytes_of_output() -> None:
    with directory() as path:
        writer = writer_in(path)
        write(writer, Entry(Kind.OUTPUT, IDS[1], 2, 5, b"bytes"))
        write(writer, Entry(Kind.EXITED, IDS[1], 0, 10, {"status": 0}))
        writer.close()
        output, exited = scan(path, 0)
        assert (output.kind, output.stream, output.position, output.data) == (
            Kind.OUTPUT,
            2,
            5,
            b"",
        )
        assert exited.fields() == {"status": 0}
        assert exited.end == writer.end
