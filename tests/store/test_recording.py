"""Recording: output, changes and the journal's position in one transaction, or none of it."""

import pytest
from sqlalchemy.exc import IntegrityError

from scriptservice.model import Outcome, Status
from scriptservice.store.queries import hosts as host_store
from scriptservice.store.queries.hosts import Host
from scriptservice.store.queries.journal_changes import (
    Change,
    Chunk,
    OtherDatabaseError,
    Recording,
    RecordingConflictError,
    record,
)
from support.store import Store

HOST = Host("alpha", "identity", "journal", 5, "place", "1.0", 9)


@pytest.fixture
def known(store: Store) -> Store:
    store.write(host_store.save_host, HOST)
    return store


def position(store: Store) -> int:
    return int(store.read(host_store.find_host, "alpha", "").journal_position)


def test_all_of_a_recording_is_stored(known: Store) -> None:
    running, ending = known.add(), known.add(Status.RUNNING)
    recording = Recording(
        "alpha",
        "journal",
        5,
        100,
        chunks=[Chunk(1, 0, 1, 0, 7, b"out"), Chunk(1, 3, 2, 0, 8, b"err")],
        changes=[
            Change(1, Status.QUEUED, Status.RUNNING, Outcome(started_at=6, stdout_bytes=3)),
            Change(2, Status.RUNNING, Status.SUCCEEDED, Outcome(exit_code=0)),
        ],
    )
    assert known.write(record, recording) == [set()]
    assert known.count("output") == 2
    assert known.find(running.id).status is Status.RUNNING
    assert known.find(ending.id).outcome.exit_code == 0
    assert position(known) == 100


def test_a_conflict_writes_nothing_of_it(known: Store) -> None:
    first, second = known.add(), known.add(Status.SUCCEEDED)
    recording = Recording(
        "alpha",
        "journal",
        5,
        100,
        chunks=[Chunk(1, 0, 1, 0, 7, b"out")],
        changes=[
            Change(1, Status.QUEUED, Status.RUNNING, Outcome()),
            Change(2, Status.RUNNING, Status.FAILED, Outcome()),
        ],
    )
    with pytest.raises(RecordingConflictError):
        known.write(record, recording)
    assert known.count("output") == 0
    assert known.find(first.id) == first
    assert known.find(second.id) == second
    assert position(known) == 5


def test_what_is_stored_is_not_stored_twice(known: Store) -> None:
    known.add(Status.RUNNING)
    change = Change(1, Status.RUNNING, Status.SUCCEEDED, Outcome(exit_code=0, stdout_bytes=3))
    chunk = Chunk(1, 0, 1, 0, 7, b"out")
    recording = Recording("alpha", "journal", 5, 100, chunks=[chunk], changes=[change])
    assert known.write(record, recording) == [set()]
    # As after a commit of which nobody heard.
    assert known.write(record, recording) == [set()]
    assert known.count("output") == 1
    assert position(known) == 100


def test_the_same_bytes_are_not_stored_twice(known: Store) -> None:
    known.add(Status.RUNNING)
    chunk = Chunk(1, 0, 1, 0, 7, b"out")
    known.write(record, Recording("alpha", "journal", 5, 100, chunks=[chunk]))
    with pytest.raises(IntegrityError):
        known.write(record, Recording("alpha", "journal", 100, 200, chunks=[chunk]))
    assert known.count("output") == 1
    assert position(known) == 100


@pytest.mark.parametrize(
    ("host", "journal", "begin"),
    [
        ("alpha", "another", 5),
        ("beta", "journal", 5),
        ("alpha", "journal", 50),
    ],
)
def test_a_part_that_does_not_follow_is_refused(
    known: Store, host: str, journal: str, begin: int
) -> None:
    known.add(Status.RUNNING)
    chunk = Chunk(1, 0, 1, 0, 7, b"out")
    with pytest.raises(OtherDatabaseError):
        known.write(record, Recording(host, journal, begin, 100, chunks=[chunk]))
    assert position(known) == 5
    assert known.count("output") == 0


def test_hosts_are_known_by_their_journal_or_else_by_their_name(known: Store) -> None:
    beta = Host("beta", "other", "its own", 0, "elsewhere", "1.0", 1)
    known.write(host_store.save_host, beta)
    again = Host("alpha", "new", "new", 1, "new", "2.0", 2)
    known.write(host_store.save_host, again)
    assert known.read(host_store.all_hosts) == [again, beta]
    assert known.read(host_store.find_host, "alpha", "unknown") == again
    assert known.read(host_store.find_host, "gamma", "new") == again
    assert known.read(host_store.find_host, "alpha", "its own") == beta
    assert known.read(host_store.find_host, "gamma", "unknown") is None
    renamed = Host("gamma", "new", "new", 1, "new", "2.0", 3)
    known.write(host_store.save_host, renamed)
    assert known.read(host_store.all_hosts) == [beta, renamed]
