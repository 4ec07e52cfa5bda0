"""Concurrency keys: no more commands of a key count than its limit allows, on both databases."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from scriptservice.errors import BusyError
from scriptservice.model import (
    UNKNOWN_OUTCOME,
    Command,
    Concurrency,
    Filter,
    IdempotencyKey,
    Origin,
    Status,
    Submission,
    WaitingFor,
    WhenBusy,
)
from scriptservice.store.database.engine import Database
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import dispatching
from scriptservice.store.queries.dispatching import DispatchMark
from scriptservice.store.queries.journal_changes import CommandChange
from scriptservice.store.queries.listing import listing
from scriptservice.store.queries.queueing.concurrency_keys import key_uses
from scriptservice.store.queries.queueing.new_commands import AdmittedCommand
from scriptservice.store.queries.queueing.waiting_commands import pick_waiting
from support.service import PATIENCE_SECONDS, eventually
from support.store import CREATED, KEEPER, Store


def key(name: str = "k", limit: int = 1, when_busy: str = "queue") -> Concurrency:
    return Concurrency(name, limit, WhenBusy(when_busy))


def submit(
    store: Store, concurrency: Concurrency | None, *, at_once: bool = True, **fields: Any
) -> AdmittedCommand | BusyError:
    """Store a command as the server does; it gets its dispatch mark if its key is free."""
    mark = {"dispatched_to": KEEPER, "host": "alpha"} if at_once else {}
    (result,) = store.insert(store.new(concurrency=concurrency, **mark, **fields))
    return result


def admitted(store: Store, concurrency: Concurrency, **fields: Any) -> Command:
    result = submit(store, concurrency, **fields)
    assert isinstance(result, AdmittedCommand)
    return result.command


def mark(store: Store, *commands: Command) -> list[bool]:
    marks = [
        DispatchMark(each.number, "alpha", KEEPER, each.submission.concurrency) for each in commands
    ]
    return store.write(dispatching.mark_dispatched, *marks)


def picked(store: Store, limit: int = 64) -> list[int]:
    return [command.number for command in store.read(pick_waiting, "alpha", limit).commands]


def end(store: Store, command: Command) -> None:
    store.set(command, status="succeeded", finished_at=CREATED)


# What counts


@pytest.mark.parametrize(
    ("status", "mark", "counts"),
    [
        ("queued", None, False),
        ("queued", KEEPER, True),
        ("running", KEEPER, True),
        ("stopping", KEEPER, True),
        *((status, KEEPER, False) for status in Status if status.final),
    ],
)
def test_a_command_counts_from_its_mark_until_it_is_final(
    store: Store, status: str, mark: str | None, counts: bool
) -> None:
    holder = admitted(store, key(), at_once=False)
    store.set(holder, status=status, dispatched_to=mark)
    assert store.read(key_uses, ["k"])["k"].counted == counts
    if not counts:
        end(store, holder)
    assert submit(store, key()).admission.marked is not counts


def test_a_command_without_a_key_is_stored_without_a_further_statement(store: Store) -> None:
    statements: list[str] = []
    with store.database.writing.begin() as connection:
        event.listen(
            connection,
            "before_cursor_execute",
            lambda _, __, statement, *___: statements.append(statement),
        )
        command_store.Inserter(100)(connection, [store.new(), store.new()])
    assert [statement.partition(" (")[0] for statement in statements] == [
        "INSERT INTO commands",
        "INSERT INTO inputs",
    ]


def test_the_row_of_a_command_has_its_key(store: Store) -> None:
    wanted = key("deploy", 3, "replace")
    stored = admitted(store, wanted)
    assert store.find(stored.id) == stored
    assert store.find(stored.id).submission.concurrency == wanted
    (item,) = store.read(listing.list_commands, Filter(), 10, None).items
    assert item.submission.concurrency == wanted


def test_a_command_that_was_given_back_counts_no_more(store: Store) -> None:
    first, second = admitted(store, key()), admitted(store, key())
    change = CommandChange(
        first.number, Status.QUEUED, Status.QUEUED, UNKNOWN_OUTCOME, given_back_at=CREATED
    )
    store.store_changes(changes=[change])
    assert picked(store) == [first.number]
    assert mark(store, first, second) == [True, False]


# The decision at a submit


def test_the_first_commands_start_at_once_and_the_others_wait(store: Store) -> None:
    commands = [admitted(store, key(limit=2)) for _ in range(4)]
    assert [each.waiting_for for each in commands] == [None, None, *["concurrency"] * 2]
    assert [each.host for each in commands] == ["alpha", "alpha", None, None]
    assert all(each == store.find(each.id) for each in commands)
    # Another key is free, and so is a command without a key.
    assert submit(store, key("other")).admission.marked


def test_one_transaction_with_many_commands_decides_about_each(store: Store) -> None:
    new = [
        store.new(concurrency=key(name, limit), dispatched_to=KEEPER)
        for name, limit in (("a", 1), ("b", 2), ("a", 1), ("b", 2), ("b", 2))
    ]
    results = store.insert(*new, store.new(dispatched_to=KEEPER))
    marked = [result.admission.marked for result in results[:-1]]
    assert marked == [True, True, False, True, False]
    assert store.row(results[-1])["dispatched_to"] == KEEPER


def test_the_smallest_limit_holds(store: Store) -> None:
    admitted(store, key(limit=5))
    # The new command's own limit is the smallest.
    assert admitted(store, key(limit=1)).waiting_for is WaitingFor.CONCURRENCY
    # It goes first, although the limit of the next one would let that one start.
    assert admitted(store, key(limit=5)).waiting_for is WaitingFor.CONCURRENCY
    assert picked(store) == []
    admitted(store, key("other", limit=1))
    # The limit of the command that counts is the smallest.
    assert admitted(store, key("other", limit=5)).waiting_for is WaitingFor.CONCURRENCY


def test_a_rejected_command_leaves_nothing(store: Store) -> None:
    admitted(store, key())
    request = IdempotencyKey("admin", "once", b"fingerprint")
    refused = submit(store, key(when_busy="reject"), origin=Origin("admin", request))
    assert isinstance(refused, BusyError)
    assert str(refused) == (
        "cannot submit the command: concurrency key k already has one command queued, running or "
        "stopping, which is its limit; try again when one has ended"
    )
    assert store.count("commands") == 1
    assert store.count("idempotency_keys") == 0


def test_a_rejected_request_can_be_repeated_in_the_same_transaction(store: Store) -> None:
    """The first of two equal requests is refused, so the second one must not repeat it."""
    admitted(store, key())
    request = IdempotencyKey("admin", "once", b"fingerprint")
    rejected = {"concurrency": key(when_busy="reject"), "origin": Origin("admin", request)}
    results = store.insert(store.new(**rejected), store.new(**rejected))
    assert [type(result) for result in results] == [BusyError, BusyError]


@pytest.mark.parametrize(("limit", "others"), [(1, 1), (2, 2), (3, 2)])
def test_a_rejection_counts_those_that_wait_too(store: Store, limit: int, others: int) -> None:
    for _ in range(others):
        admitted(store, key(limit=2), at_once=False)
    result = submit(store, key(limit=limit, when_busy="reject"))
    # With a limit of 3 the limit of those that wait is the smallest.
    assert isinstance(result, BusyError)


def test_a_command_that_must_not_wait_waits_only_for_those_before_it(store: Store) -> None:
    admitted(store, key(limit=3), at_once=False)
    result = submit(store, key(limit=3, when_busy="reject"))
    assert isinstance(result, AdmittedCommand)
    assert not result.admission.marked  # another command of the key goes first
    assert len(picked(store)) == 2


# Replacing


def test_a_replacing_command_stops_those_that_wait(store: Store) -> None:
    holder = admitted(store, key())
    waiting = [admitted(store, key(when_busy="replace"), at_once=False) for _ in range(1)]
    other = admitted(store, key("other"), at_once=False)
    result = submit(store, key(when_busy="replace"), created_at=CREATED + 7)
    assert isinstance(result, AdmittedCommand)
    reason = f"it was replaced by command {result.command.id}"
    assert result.admission.ended == (waiting[0].id,)
    ended = store.find(waiting[0].id)
    assert (ended.status, ended.waiting_for) == (Status.STOPPED, None)
    assert ended.outcome == UNKNOWN_OUTCOME._replace(finished_at=CREATED + 7, reason=reason)
    assert store.find(other.id).status is Status.QUEUED
    # The holder was stopped by the first replacing command, so it is not stopped again.
    row = store.row(holder)
    first = f"it was replaced by command {waiting[0].id}"
    assert (row["stop_signal"], row["stop_grace_seconds"]) == ("SIGTERM", 10)
    assert row["stop_reason"] == first
    assert result.admission.stopping == ()
    assert not result.admission.marked
    end(store, holder)
    assert picked(store) == [other.number, result.command.number]


@pytest.mark.parametrize(
    ("limits", "own", "stopped"),
    [
        ([1], 1, [0]),
        ([3, 3, 3], 3, [0]),
        ([3, 3], 3, []),
        ([5, 2], 5, [0]),
        ([2, 5], 5, [0]),
        ([3, 3, 3], 1, [0, 1, 2]),
    ],
)
def test_a_replacing_command_stops_the_oldest(
    store: Store, limits: list[int], own: int, stopped: list[int]
) -> None:
    holders = []
    for limit in limits:
        holders.append(admitted(store, key(limit=limit), at_once=False, grace_seconds=3))
        store.set(holders[-1], status="running", dispatched_to=KEEPER)
    result = submit(store, key(limit=own, when_busy="replace"))
    assert isinstance(result, AdmittedCommand)
    assert result.admission.marked is not bool(stopped)
    assert [each.id for each in result.admission.stopping] == [holders[n].id for n in stopped]
    assert all(each.grace_seconds == 3 for each in result.admission.stopping)
    signals = [store.row(holder)["stop_signal"] for holder in holders]
    assert signals == ["SIGTERM" if n in stopped else None for n in range(len(holders))]
    for n in stopped:
        end(store, holders[n])
    assert (result.command.number in picked(store)) is bool(stopped)


def test_a_command_whose_stop_was_requested_is_not_stopped_for_another(store: Store) -> None:
    holder = admitted(store, key())
    store.set(holder, status="running", stop_signal="SIGINT", stop_grace_seconds=60)
    result = submit(store, key(when_busy="replace"))
    assert isinstance(result, AdmittedCommand)
    assert result.admission.stopping == ()
    row = store.row(holder)
    assert (row["stop_signal"], row["stop_reason"]) == ("SIGINT", None)


def test_a_replaced_command_that_was_not_started_has_the_reason(store: Store) -> None:
    holder = admitted(store, key())
    result = submit(store, key(when_busy="replace"))
    assert isinstance(result, AdmittedCommand)
    change = CommandChange(
        holder.number, Status.QUEUED, Status.QUEUED, UNKNOWN_OUTCOME, given_back_at=CREATED
    )
    assert store.store_changes(changes=[change]) == [{holder.number}]
    ended = store.find(holder.id)
    assert ended.status is Status.STOPPED
    assert ended.outcome.reason == f"it was replaced by command {result.command.id}"


# Which command is next


def test_within_a_key_priority_counts_then_the_order_of_submission(store: Store) -> None:
    holder = admitted(store, key())
    low, first, second, high = (admitted(store, key(), priority=n) for n in (-1, 0, 0, 5))
    left = {each.number: each for each in (low, first, second, high)}
    order = []
    while left:
        assert mark(store, *left.values()) == [False] * len(left)
        end(store, holder)
        (number,) = picked(store)
        order.append(number)
        holder = left.pop(number)
        assert mark(store, holder) == [True]
    assert order == [high.number, first.number, second.number, low.number]


def test_the_commands_of_a_busy_key_do_not_hold_up_others(store: Store) -> None:
    admitted(store, key())
    for _ in range(100):
        admitted(store, key(), priority=100)
    free = [
        admitted(store, key("b", 2), at_once=False, priority=priority) for priority in (1, 2, 3)
    ]
    plain = store.add()
    pick = store.read(pick_waiting, "alpha", 64)
    assert [command.number for command in pick.commands] == [
        free[2].number, free[1].number, plain.number,
    ]  # fmt: skip
    assert pick.is_blocked


def test_a_pick_of_a_free_key_goes_on_behind_it(store: Store) -> None:
    keyed = [admitted(store, key(), at_once=False, priority=9) for _ in range(10)]
    plain = [store.add() for _ in range(3)]
    expected = [keyed[0].number, *(command.number for command in plain)]
    assert picked(store, 4) == expected
    assert picked(store, 2) == expected[:2]
    pick = store.read(pick_waiting, "alpha", 5)
    assert [command.number for command in pick.commands] == expected
    assert pick.is_blocked
    for command in keyed[1:]:
        end(store, command)
    assert not store.read(pick_waiting, "alpha", 5).is_blocked


def test_marks_of_one_transaction_respect_the_limit(store: Store) -> None:
    commands = [admitted(store, key(limit=2), at_once=False) for _ in range(4)]
    other = admitted(store, key("other"), at_once=False)
    assert mark(store, *commands, other) == [True, True, False, False, True]
    # The answer to that commit may be lost, so the writer may call the job again.
    assert mark(store, *commands, other) == [True, True, False, False, True]
    assert store.read(key_uses, ["k"])["k"].counted == 2


# What a command waits for


def bound_to(store: Store, host: str) -> Command:
    """Store a command that must run on a host."""
    new = replace(store.new(), submission=Submission(script="true", host=host))
    return store.insert(new)[0]


def test_a_queued_command_says_what_it_waits_for(store: Store) -> None:
    store.store_changes()  # this makes the host alpha known
    reasons = [
        (admitted(store, key(), at_once=False), WaitingFor.CAPACITY),
        (admitted(store, key("busy")), None),
        (admitted(store, key("busy")), WaitingFor.CONCURRENCY),
        (admitted(store, key("busy", 2)), WaitingFor.CONCURRENCY),
        (bound_to(store, "alpha"), WaitingFor.CAPACITY),
        (bound_to(store, "nowhere"), WaitingFor.HOST),
        (store.add(), WaitingFor.CAPACITY),
        (store.add(dispatched_to=KEEPER), None),
        (store.add(Status.RUNNING), None),
        (store.add(Status.SUCCEEDED), None),
    ]
    expected = {command.id: reason for command, reason in reasons}
    assert {id_: store.find(id_).waiting_for for id_ in expected} == expected
    items = store.read(listing.list_commands, Filter(), 100, None).items
    assert {item.id: item.waiting_for for item in items} == expected


def test_a_page_takes_one_query_for_all_keys(store: Store) -> None:
    def statements(wanted: Filter) -> int:
        found = []
        with store.database.reading.begin() as connection:
            event.listen(
                connection, "before_cursor_execute", lambda *values: found.append(values[2])
            )
            assert listing.list_commands(connection, wanted, 100, None).items
        return len(found)

    store.add()
    assert statements(Filter()) == 1
    for n in range(20):
        admitted(store, key(f"key {n % 5}"))
    assert statements(Filter()) == 2


# Two writers, and answers that are lost


ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
"""For what can only happen there: on SQLite a transaction is exclusive."""


def blocked_locks(store: Store) -> int:
    query = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    with store.database.migrating.connect() as connection:
        return int(connection.execute(query).scalar_one())


@ON_POSTGRESQL
def test_two_servers_cannot_dispatch_one_key_twice(database: Database, store: Store) -> None:
    """The first transaction has stored its mark and not committed when the second one begins."""
    commands = [admitted(store, key(), at_once=False) for _ in range(2)]
    new = store.new(concurrency=key(), dispatched_to=KEEPER)
    jobs: list[Callable[[Connection], Any]] = [
        *(
            lambda connection, command=command: dispatching.mark_dispatched(
                connection,
                [DispatchMark(command.number, "alpha", KEEPER, command.submission.concurrency)],
            )
            for command in commands
        ),
        lambda connection: command_store.Inserter(50)(connection, [new]),
    ]
    gates = [threading.Event() for _ in jobs]
    begun = [threading.Event() for _ in jobs]

    def run(number: int) -> Any:
        with database.migrating.begin() as connection:
            begun[number].set()
            result = jobs[number](connection)
            gates[number].wait(PATIENCE_SECONDS)
            return result

    with ThreadPoolExecutor(len(jobs)) as threads:
        first = threads.submit(run, 0)
        eventually(lambda: store_locks(store) == 1, "the first one to have the lock")
        others = [threads.submit(run, number) for number in (1, 2)]
        eventually(lambda: blocked_locks(store) == 2, "the others to wait for the lock")
        for gate in gates:
            gate.set()
        assert first.result() == [True]
        assert others[0].result() == [False]
        assert not others[1].result()[0].admission.marked
    assert store.read(key_uses, ["k"])["k"].counted == 1


def store_locks(store: Store) -> int:
    query = text(
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE locktype = 'advisory' AND granted AND state = 'idle in transaction'"
    )
    with store.database.migrating.connect() as connection:
        return int(connection.execute(query).scalar_one())


@ON_POSTGRESQL
def test_batches_of_several_keys_do_not_wait_for_each_other(
    database: Database, store: Store
) -> None:
    """Each of two threads marks commands of all keys, in the opposite order of the other."""
    names = [f"key {n}" for n in range(20)]
    rounds = 10
    batches = [
        [[admitted(store, key(name, 1000), at_once=False) for name in order] for _ in range(rounds)]
        for order in (names, names[::-1])
    ]

    def run(batch: list[list[Command]]) -> None:
        for commands in batch:
            marks = [
                DispatchMark(each.number, "alpha", KEEPER, each.submission.concurrency)
                for each in commands
            ]
            with database.migrating.begin() as connection:
                assert all(dispatching.mark_dispatched(connection, marks))

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(run, batches))


def test_a_lost_answer_changes_no_decision(database: Database, store: Store) -> None:
    """The writer calls the job again with the same item after a commit that it knows nothing of."""
    insert = command_store.Inserter(1)

    def twice(item: Any) -> Any:
        (before,) = store.write(insert, item)
        (after,) = store.write(insert, item)
        assert after == before
        return before

    holder = twice(store.new(concurrency=key(), dispatched_to=KEEPER)).command
    waiting = twice(store.new(concurrency=key(), dispatched_to=KEEPER))
    assert not waiting.admission.marked
    replacing = twice(store.new(concurrency=key(when_busy="replace"), dispatched_to=KEEPER))
    assert replacing.admission.ended == (waiting.command.id,)
    assert [each.id for each in replacing.admission.stopping] == [holder.id]
    assert store.count("commands") == 3
