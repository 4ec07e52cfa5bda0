"""The keeper's journal on the disk: a full disk, repair, and what the next keeper reads in it."""

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from scriptservice.keeper.journal.journal import Journal
from scriptservice.keeper.journal.journal_repair import repair, scan
from scriptservice.keeper.journal.journal_writer import JournalWriter, NoRoomError
from scriptservice.keeper.previous_keeper import read_previous_keeper
from scriptservice.keeper.system.event_loop import EventLoop
from scriptservice.keeper.system.identity import Identity
from scriptservice.protocol import fault_points
from scriptservice.protocol.clock import now_us
from scriptservice.protocol.journal_format import (
    HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Kind,
    segment_path,
)
from scriptservice.protocol.journal_reader import JournalReader
from support.loops import run_for, run_until

COMMAND = str(uuid4())
ID = UUID(COMMAND).bytes


# A full disk: the kernel refuses to write beyond a limit on file sizes in the same way.


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    made = JournalWriter(str(tmp_path), reserve_bytes=0, snapshot=snapshot)
    yield made
    made.close()


def snapshot() -> dict[str, Any]:
    return {"identity": Identity.current().fields(), "cgroup": None, "open": []}


class CountingReader:
    def __init__(self) -> None:
        self.resumed = 0

    def resume(self) -> None:
        self.resumed += 1

    def callback_failed(self, error: Exception) -> None:
        raise error


def test_records_wait_in_order_while_the_disk_is_full(
    tmp_path: Path, writer: JournalWriter
) -> None:
    loop = EventLoop()
    journal = Journal(writer, loop, spool_limit_bytes=1 << 30)
    rooms: list[int] = []
    journal.on_room = lambda: rooms.append(len(list(scan(str(tmp_path), 0))))
    journal.append(Kind.STARTED, COMMAND, {"number": 0})
    before = journal.end
    reading, writing = os.pipe()
    os.write(writing, b"output")
    waiting, cancelled = CountingReader(), CountingReader()
    with files_at_most(journal.end):
        for number in range(1, 4):
            journal.append(Kind.DISCARDED, COMMAND, {"number": number})
        with pytest.raises(NoRoomError):
            journal.append_now(Kind.STARTING, COMMAND, {})
        with pytest.raises(NoRoomError):
            journal.splice(reading, 6, ID, 1, 0)
        journal.wait_for_room(reading, waiting)
        journal.wait_for_room(writing, cancelled)
        journal.cancel_wait(writing)
        assert (journal.full, journal.has_pending, journal.end) == (True, True, before)
        run_for(loop, 0.6)
        assert (waiting.resumed, rooms) == (0, [])
        # Nothing half written stands in the file.
        assert [record.kind for record in scan(str(tmp_path), 0)] == [Kind.STARTED]
    run_until(loop, lambda: rooms)
    records = list(scan(str(tmp_path), 0))
    assert [record.fields()["number"] for record in records] == [0, 1, 2, 3]
    assert [record.time_us for record in records] == sorted(record.time_us for record in records)
    assert (waiting.resumed, cancelled.resumed, rooms) == (1, 0, [4])
    assert not journal.full
    assert journal.splice(reading, 6, ID, 1, 0) == 6
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("error", ["EIO", "ESTALE", "EBADMSG"])
def test_the_journal_tries_again_after_any_error(
    tmp_path: Path, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    faults = tmp_path / "faults"
    faults.mkdir()
    monkeypatch.setattr(fault_points, "_directory", str(faults))
    loop = EventLoop()
    journal = Journal(writer, loop, spool_limit_bytes=1 << 30)
    fault_points.arm(str(faults), "journal.append", "fail ENOSPC")
    journal.append(Kind.EXITED, COMMAND, {"status": 0})
    assert journal.has_pending
    fault_points.arm(str(faults), "journal.append", f"fail {error}")
    run_until(loop, lambda: not journal.has_pending)
    assert not fault_points.pending(str(faults), "journal.append")
    assert [record.kind for record in scan(str(tmp_path), 0)] == [Kind.EXITED]


def test_output_that_the_script_took_back_is_not_a_full_disk(
    writer: JournalWriter,
) -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    end = writer.end
    assert writer.splice(reading, 10, ID, 1, 0) == 0
    assert writer.end == end
    os.write(writing, b"abc")
    assert writer.splice(reading, 10, ID, 1, 0) == 3
    os.close(writing)
    assert writer.splice(reading, 10, ID, 1, 3) == 0
    os.close(reading)


def test_output_waits_for_the_spool_limit_and_the_reserve(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    reading, writing = os.pipe()
    os.write(writing, b"x" * 1000)
    small = JournalWriter(str(tmp_path / "a"), reserve_bytes=0, snapshot=snapshot)
    journal = Journal(small, EventLoop(), spool_limit_bytes=100)
    assert journal.splice(reading, 500, ID, 1, 0) == 500
    with pytest.raises(NoRoomError):
        journal.splice(reading, 500, ID, 1, 500)
    journal.stored_up_to(journal.end)
    assert journal.splice(reading, 100, ID, 1, 500) == 100
    journal.append(Kind.EXITED, COMMAND, {})
    reserved = JournalWriter(str(tmp_path / "b"), reserve_bytes=1 << 62, snapshot=snapshot)
    with pytest.raises(NoRoomError):
        reserved.splice(reading, 100, ID, 1, 600)
    reserved.append(Kind.EXITED, ID, {}, 600, now_us())
    for descriptor in (reading, writing):
        os.close(descriptor)
    small.close()
    reserved.close()


# What the next keeper reads


def put(writer: JournalWriter, data: bytes, stream: int, position: int) -> int:
    reading, writing = os.pipe()
    os.write(writing, data)
    moved = writer.splice(reading, len(data), ID, stream, position)
    os.close(reading)
    os.close(writing)
    return moved


def test_the_previous_keeper_is_what_the_records_say(tmp_path: Path, writer: JournalWriter) -> None:
    ended, starting = uuid4(), uuid4()
    mine = Identity.current()
    record = {"identity": mine.fields(), "cgroup": "/sys/fs/cgroup/x"}
    writer.append(Kind.KEEPER, bytes(16), record, 0, now_us())
    for each in (ended.bytes, ID, starting.bytes):
        writer.append(Kind.STARTING, each, {}, 0, now_us())
    for each, pid in ((ended.bytes, 10), (ID, 11)):
        fields = {"pid": pid, "start_ticks": 5, "pipes": [7, 8]}
        writer.append(Kind.STARTED, each, fields, 0, now_us())
    put(writer, b"one", 1, 0)
    put(writer, b"three", 2, 3)
    writer.append(Kind.STOPPING, ID, {"cause": "timeout"}, 8, now_us())
    writer.append(Kind.EXITED, ended.bytes, {"status": 0}, 0, now_us())
    writer.append(Kind.CLOSED, ended.bytes, {}, 0, now_us())
    previous = read_previous_keeper(str(tmp_path))
    assert previous.identity == mine
    assert previous.cgroup == "/sys/fs/cgroup/x"
    assert set(previous.open) == {COMMAND, str(starting)}
    command = previous.open[COMMAND]
    assert (command.pid, command.start_ticks, command.pipes) == (11, 5, [7, 8])
    assert (command.position, command.exited, command.life.cause) == (8, False, "timeout")
    assert previous.open[str(starting)].pid is None


def test_a_snapshot_replaces_all_records_before_it(tmp_path: Path) -> None:
    opened = {
        "id": COMMAND, "pid": 3, "start_ticks": 4, "pipes": [5, 6], "position": 70,
        "exited": True, "cause": None, "leftovers_killed": 1, "discarded_bytes": 2,
    }  # fmt: skip
    writer = JournalWriter(
        str(tmp_path), reserve_bytes=0, snapshot=lambda: {**snapshot(), "open": [opened]}
    )
    writer.append(Kind.STARTING, uuid4().bytes, {}, 0, now_us())
    writer.rotate()
    writer.drop(writer.end)
    assert writer.first > 0
    put(writer, b"more", 1, 70)
    writer.close()
    previous = read_previous_keeper(str(tmp_path))
    (command,) = previous.open.values()
    assert (command.id, command.position, command.exited) == (COMMAND, 74, True)
    assert (command.leftovers_killed, command.discarded) == (1, 2)


@pytest.mark.parametrize("lost_bytes", range(1, HEADER_BYTES + 10))
def test_a_torn_end_is_cut_to_what_arrived(
    tmp_path: Path, writer: JournalWriter, lost_bytes: int
) -> None:
    put(writer, b"whole", 1, 0)
    kept = writer.end
    put(writer, b"123456789", 2, 5)
    path = Path(segment_path(str(tmp_path), 0))
    os.truncate(path, path.stat().st_size - lost_bytes)
    repair(str(tmp_path))
    again = JournalWriter(str(tmp_path), reserve_bytes=0, snapshot=snapshot)
    put(again, b"rescued", 1, 5 + max(0, 9 - lost_bytes))
    reader = JournalReader(str(tmp_path))
    records, after = reader.read(0, again.end, 1 << 20)
    reader.close()
    assert after == again.end
    torn = [b"123456789"[: 9 - lost_bytes]] if lost_bytes < 9 else []
    assert [bytes(each.data) for each in records] == [b"whole", *torn, b"rescued"]
    assert [each.position for each in records] == [
        sum(len(each.data) for each in records[:index]) for index in range(len(records))
    ]
    assert again.end > kept
    again.close()


def test_a_torn_record_that_is_not_output_is_cut_off(tmp_path: Path, writer: JournalWriter) -> None:
    writer.append(Kind.STARTED, ID, {"pid": 1}, 0, now_us())
    end = writer.end
    writer.append(Kind.EXITED, ID, {"status": 0}, 0, now_us())
    path = Path(segment_path(str(tmp_path), 0))
    os.truncate(path, path.stat().st_size - 3)
    assert len(repair(str(tmp_path))) == 1
    assert path.stat().st_size == end
    assert repair(str(tmp_path)) == []


def test_a_segment_without_a_header_is_set_aside(tmp_path: Path, writer: JournalWriter) -> None:
    writer.append(Kind.STARTED, ID, {"pid": 1}, 0, now_us())
    Path(segment_path(str(tmp_path), writer.end)).write_bytes(b"x" * (SEGMENT_HEADER_BYTES - 1))
    assert "set aside" in repair(str(tmp_path))[0]
    again = JournalWriter(str(tmp_path), reserve_bytes=0, snapshot=snapshot)
    assert again.end == writer.end
    again.close()


def test_appending_a_record_takes_hardly_longer_than_a_plain_write(
    tmp_path: Path, writer: JournalWriter
) -> None:
    """Compares the best of several rounds of each, also when the journal is long."""

    def append(number: int) -> None:
        writer.append(Kind.DISCARDED, ID, {"discarded_bytes": number}, 0, now_us())

    with (tmp_path / "plain").open("wb", buffering=0) as plain:
        appends = [seconds_of(append) for _ in range(10)]
        writes = [seconds_of(lambda _: plain.write(bytes(100))) for _ in range(10)]
    assert min(appends) < 100 * min(writes)
    assert min(appends[5:]) < 5 * min(appends[:5])


def seconds_of(action: Callable[[int], Any]) -> float:
    """Return how long two hundred calls take."""
    began = time.monotonic()
    for number in range(200):
        action(number)
    return time.monotonic() - began
