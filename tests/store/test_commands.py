"""Storing commands, finding them, and picking them for dispatch."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import IntegrityError

from scriptservice.errors import UnknownCommandError
from scriptservice.model import Limits, OnOutputLimit, Origin, Status
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import dispatching
from scriptservice.store.queries.commands import Inserter
from scriptservice.store.queries.queueing.new_commands import NewCommand
from scriptservice.store.queries.queueing.waiting_commands import pick_waiting
from support.store import CREATED, KEEPER, Store

EVERYTHING = {
    "script": "echo ä\n" * 100,
    "interpreter": ("/bin/bash", "-e"),
    "name": "a name",
    "labels": {"team": "db", "a": ""},
    "args": ("one", "", "zwei ü"),
    "env": {"A": "1", "B": "="},
    "working_directory": "private",
    "stdin": "in\0put ä",
    "timeout_seconds": 1.5,
    "queue_timeout_seconds": 2.5,
    "grace_seconds": 0.0,
    "leftover_seconds": 3600.0,
    "output_limit_bytes": (1 << 63) - 1,
    "on_output_limit": OnOutputLimit.STOP,
    "limits": Limits(cpu_seconds=1.5, nice=0, memory_bytes=(1 << 63) - 1),
    "priority": -100,
}


def test_a_stored_command_is_found(store: Store) -> None:
    rerun_of = uuid4()
    new = store.new(**EVERYTHING, rerun_of=rerun_of, host="alpha", dispatched_to=KEEPER)
    (stored,) = store.insert(new)
    found = store.find(new.id)
    assert found == stored
    assert found.submission == new.submission
    assert (found.id, found.created_by, found.created_at) == (new.id, "admin", CREATED)
    assert (found.rerun_of, found.host, found.status) == (rerun_of, "alpha", Status.QUEUED)
    assert found.stdin_bytes == len("in\0put ä".encode())
    assert store.row(found)["dispatched_to"] == KEEPER


def test_a_command_with_defaults_is_found(store: Store) -> None:
    command = store.add()
    assert command.submission == store.new().submission
    assert (command.stdin_bytes, command.submission.stdin) == (0, None)


def test_an_empty_standard_input_is_not_none(store: Store) -> None:
    assert store.add(stdin="").submission.stdin == ""


def test_numbers_follow_the_order_of_submission(store: Store) -> None:
    assert store.read(command_store.next_number) == 1
    batch = store.insert(*(store.new() for _ in range(5)))
    alone = store.insert(store.new())
    assert [command.number for command in batch + alone] == [1, 2, 3, 4, 5, 6]
    # After a restart another inserter continues from the stored numbers.
    following = store.read(command_store.next_number)
    (after,) = store.write(Inserter(following), store.new())
    assert after.number == 7


def test_a_batch_is_stored_whole_or_not_at_all(store: Store) -> None:
    twice = store.new(labels={"a": "b"})
    with pytest.raises(IntegrityError):
        store.insert(store.new(), twice, twice)
    for table in ("commands", "inputs", "labels"):
        assert store.count(table) == 0


def test_a_repeated_insert_does_not_store_commands_twice(
    store: Store,
) -> None:
    insert = Inserter(1)
    known, new = store.new(labels={"a": "b"}), store.new()
    (first,) = store.write(insert, known)
    # The next transaction may hold more, in any order.
    assert store.write(insert, new, known)[1] == first
    assert store.count("commands") == 2
    assert store.find(known.id) == first
    assert store.find(new.id).number > first.number


def test_unknown_commands_are_not_found(store: Store) -> None:
    store.add()
    for function in (command_store.find, command_store.find_extent):
        with pytest.raises(UnknownCommandError):
            store.read(function, UUID(int=1))


@pytest.mark.parametrize("status", Status)
def test_the_extent_of_output(store: Store, status: Status) -> None:
    command = store.add(status)
    store.set(command, stdout_bytes=5, stderr_bytes=7)
    extent = store.read(command_store.find_extent, command.id)
    assert (extent.number, extent.finished) == (command.number, status.final)
    assert (extent.stdout_bytes, extent.stderr_bytes) == (5, 7)


# Dispatch


def test_waiting_commands_come_in_the_order_of_their_start(store: Store) -> None:
    low = store.add(priority=-1)
    first, second = store.add(), store.add()
    high = store.add(priority=5)
    waiting = store.read(pick_waiting, "alpha", 10).commands
    assert waiting == [high, first, second, low]
    assert store.read(pick_waiting, "alpha", 2).commands == [high, first]


def test_commands_that_are_not_waiting(store: Store) -> None:
    here, anywhere = store.add(host="alpha"), store.add()
    store.set(here, host="alpha")
    for status in Status:
        if status is not Status.QUEUED:
            store.add(status)
    store.add(dispatched_to=KEEPER)
    gone = store.add()
    store.set(gone, deleted_at=1)
    waiting = store.read(pick_waiting, "alpha", 100).commands
    assert [command.id for command in waiting] == [here.id, anywhere.id]


def test_waiting_commands_are_counted_up_to_a_bound(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for status in Status:
        store.add(status)
    store.add(host="beta")
    store.add(dispatched_to=KEEPER)
    assert store.read(dispatching.count_waiting) == 2
    monkeypatch.setattr(dispatching, "MAX_COUNTED", 1)
    assert store.read(dispatching.count_waiting) == 1


def test_a_command_for_another_host_does_not_wait_for_this_one(store: Store) -> None:
    new = store.new()
    bound = NewCommand(
        id=new.id,
        submission=type(new.submission)(script="true", host="beta"),
        origin=Origin("admin"),
        created_at=CREATED,
        rerun_of=None,
        host="beta",
        dispatched_to=None,
    )
    (stored,) = store.insert(bound)
    assert store.read(pick_waiting, "alpha", 10).commands == []
    assert store.read(pick_waiting, "beta", 10).commands == [stored]


def test_open_commands_are_those_that_are_not_final(store: Store) -> None:
    commands = {status: store.add(status, queue_timeout_seconds=9) for status in Status}
    store.set(
        commands[Status.RUNNING],
        dispatched_to=KEEPER,
        stop_signal="SIGTERM",
        stop_grace_seconds=1.5,
        started_at=3,
    )
    found = {row.status: row for row in read_open(store)}
    assert set(found) == {Status.QUEUED, Status.RUNNING, Status.STOPPING}
    running = found[Status.RUNNING]
    assert running.id == commands[Status.RUNNING].id
    assert (running.dispatched_to, running.stop_signal) == (KEEPER, "SIGTERM")
    assert (running.stop_grace_seconds, running.outcome.started_at) == (1.5, 3)
    assert (running.queue_timeout_seconds, running.created_at) == (9, CREATED)


def read_open(
    store: Store, meanwhile: Callable[[int], object] | None = None
) -> list[dispatching.OpenCommand]:
    """Return the commands of all pages, and call a function after each page."""
    found: list[dispatching.OpenCommand] = []
    place: dispatching.PageStart | None = dispatching.FIRST_PAGE
    while place is not None:
        page = store.read(dispatching.open_commands, place)
        found += page.commands
        place = page.next_start
        if meanwhile is not None:
            meanwhile(len(found))
    return found


def test_open_commands_come_in_pages_without_those_just_waiting(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "PAGE_COMMANDS", 2)
    wanted = set()
    for status in (Status.QUEUED, Status.RUNNING, Status.STOPPING):
        for number in range(7):
            store.add(Status.SUCCEEDED, dispatched_to=KEEPER)
            waits = {"dispatched_to": None}
            sent = {"dispatched_to": f"keeper {number}"}
            fields = sent if number % 3 else waits
            seconds = 9 if number == 3 else None
            made = store.add(status, queue_timeout_seconds=seconds, **fields)
            if fields is sent or seconds is not None:
                wanted.add(made.number)
    found = [row.number for row in read_open(store)]
    assert len(found) == len(set(found)) == 15
    assert set(found) == wanted


def test_status_changes_between_two_pages_hide_no_command(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "PAGE_COMMANDS", 2)
    made = [store.add(dispatched_to=KEEPER) for _ in range(9)]

    def change_statuses(count: int) -> None:
        # In reverse order, so that a command moves on before its new status has been read.
        if count == 2:
            store.set(made[8], status=Status.RUNNING.value)
            store.set(made[7], status=Status.STOPPING.value)
            store.set(made[0], status=Status.RUNNING.value)
            store.set(made[6], status=Status.SUCCEEDED.value)
        if count > 6:
            store.set(made[8], status=Status.STOPPING.value)

    found = {row.number for row in read_open(store, change_statuses)}
    assert found == {command.number for command in made} - {made[6].number}


def test_no_open_commands(store: Store) -> None:
    assert read_open(store) == []


def test_find_by_ids_returns_existing_commands_of_any_status(store: Store) -> None:
    made = [store.add(status) for status in Status]
    wanted = [command.id for command in made[::2]]
    found = store.read(dispatching.find_by_ids, [*wanted, uuid4()])
    assert {row.id for row in found} == set(wanted)
    assert store.read(dispatching.find_by_ids, []) == []
