"""Storing a part of a journal: output, changes and the position, all in one transaction."""

import pytest
from sqlalchemy.exc import IntegrityError

from scriptservice.model import Outcome, Status
from scriptservice.store.queries import hosts as host_store
from scriptservice.store.queries.hosts import StoredHost
from scriptservice.store.queries.journal_changes import (
    Chunk,
    CommandChange,
    JournalChanges,
    OtherDatabaseError,
    StatusConflictError,
    store_journal_changes,
)
from support.store import Store

HOST = StoredHost("alpha", "identity", "journal", 5, "place", "1.0", 9)


@pytest.fixture
def known(store: Store) -> Store:
    store.write(host_store.save_host, HOST)
    return store


def position(store: Store) -> int:
    return int(store.read(host_store.find_host, "alpha", "").journal_position)


def test_a_part_of_the_journal_is_stored_completely(known: Store) -> None:
    running, ending = known.add(), known.add(Status.RUNNING)
    recording = JournalChanges(
        "alpha",
        "journal",
        5,
        100,
        chunks=[Chunk(1, 0, 1, 0, 7, b"out"), Chunk(1, 3, 2, 0, 8, b"err")],
        changes=[
            CommandChange(1, Status.QUEUED, Status.RUNNING, Outcome(started_at=6, stdout_bytes=3)),
            CommandChange(2, Status.RUNNING, Status.SUCCEEDED, Outcome(exit_code=0)),
        ],
    )
    assert known.write(store_journal_changes, recording) == [set()]
    assert known.count("output") == 2
    assert known.find(running.id).status is Status.RUNNING
    assert known.find(ending.id).outcome.exit_code == 0
    assert position(known) == 100


def test_a_conflict_stores_nothing(known: Store) -> None:
    first, second = known.add(), known.add(Status.SUCCEEDED)
    recording = JournalChanges(
        "alpha",
        "journal",
        5,
        100,
        chunks=[Chunk(1, 0, 1, 0, 7, b"out")],
        changes=[
            CommandChange(1, Status.QUEUED, Status.RUNNING, Outcome()),
            CommandChange(2, Status.RUNNING, Status.FAILED, Outcome()),
        ],
    )
    with pytest.raises(StatusConflictError):
        known.write(store_journal_changes, recording)
    assert known.count("output") == 0
    assert known.find(first.id) == first
    assert known.find(second.id) == second
    assert position(known) == 5


def test_a_part_is_not_stored_twice(known: Store) -> None:
    known.add(Status.RUNNING)
    change = CommandChange(
        1, Status.RUNNING, Status.SUCCEEDED, Outcome(exit_code=0, stdout_bytes=3)
    )
    chunk = Chunk(1, 0, 1, 0, 7, b"out")
    recording = JournalChanges("alpha", "journal", 5, 100, chunks=[chunk], changes=[change])
    assert known.write(store_journal_changes, recording) == [set()]
    # As after a commit whose answer was lost.
    assert known.write(store_journal_changes, recording) == [set()]
    assert known.count("output") == 1
    assert position(known) == 100


def test_the_same_output_is_not_stored_twice(known: Store) -> None:
    known.add(Status.RUNNING)
    chunk = Chunk(1, 0, 1, 0, 7, b"out")
    known.write(store_journal_changes, JournalChanges("alpha", "journal", 5, 100, chunks=[chunk]))
    with pytest.raises(IntegrityError):
        known.write(
            store_journal_changes, JournalChanges("alpha", "journal", 100, 200, chunks=[chunk])
        )
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
def test_a_part_that_does_not_follow_the_stored_position_is_refused(
    known: Store, host: str, journal: str, begin: int
) -> None:
    known.add(Status.RUNNING)
    chunk = Chunk(1, 0, 1, 0, 7, b"out")
    with pytest.raises(OtherDatabaseError):
        known.write(
            store_journal_changes, JournalChanges(host, journal, begin, 100, chunks=[chunk])
        )
    assert position(known) == 5
    assert known.count("output") == 0


def test_hosts_are_found_by_journal_or_else_by_name(known: Store) -> None:
    beta = StoredHost("beta", "other", "its own", 0, "elsewhere", "1.0", 1)
    known.write(host_store.save_host, beta)
    again = StoredHost("alpha", "new", "new", 1, "new", "2.0", 2)
    known.write(host_store.save_host, again)
    assert known.read(host_store.all_hosts) == [again, beta]
    assert known.read(host_store.find_host, "alpha", "unknown") == again
    assert known.read(host_store.find_host, "gamma", "new") == again
    assert known.read(host_store.find_host, "alpha", "its own") == beta
    assert known.read(host_store.find_host, "gamma", "unknown") is None
    renamed = StoredHost("gamma", "new", "new", 1, "new", "2.0", 3)
    known.write(host_store.save_host, renamed)
    assert known.read(host_store.all_hosts) == [beta, renamed]
