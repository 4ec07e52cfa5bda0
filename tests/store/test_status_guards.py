"""Every change of status, tried from every status: an illegal one leaves the row unchanged."""

import itertools
from dataclasses import replace
from uuid import UUID

import pytest

from scriptservice.errors import AlreadyFinishedError, NotFinishedError, UnknownCommandError
from scriptservice.model import Outcome, Status, may_become
from scriptservice.store.queries import deletions, dispatching, stop_requests
from scriptservice.store.queries.deletions import Deletion
from scriptservice.store.queries.dispatching import DispatchMark, Ending
from scriptservice.store.queries.journal_changes import CommandChange, StatusConflictError
from scriptservice.store.queries.stop_requests import StopRequest
from support.store import KEEPER, Store

AT = 77


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("dispatched_to", [None, KEEPER])
def test_only_waiting_commands_are_marked(
    store: Store, status: Status, dispatched_to: str | None
) -> None:
    command = store.add(status, dispatched_to=dispatched_to)
    before = store.row(command)
    mark = DispatchMark(command.number, "alpha", "another keeper")
    allowed = status is Status.QUEUED and dispatched_to is None
    assert store.write(dispatching.mark_dispatched, mark) == [allowed]
    after = {"dispatched_to": "another keeper", "host": "alpha"} if allowed else {}
    assert store.row(command) == before | after
    # Repeated after a commit whose answer was lost, it changes nothing; no other keeper gets it.
    assert store.write(dispatching.mark_dispatched, mark) == [allowed]
    other = DispatchMark(command.number, "alpha", "a third keeper")
    assert store.write(dispatching.mark_dispatched, other) == [False]
    assert store.row(command) == before | after


def test_a_deleted_command_is_not_marked(store: Store) -> None:
    command = store.add()
    store.set(command, deleted_at=1)
    assert store.write(dispatching.mark_dispatched, DispatchMark(1, "alpha", KEEPER)) == [False]


def test_each_mark_has_its_own_result(store: Store) -> None:
    store.add()
    store.add(Status.RUNNING)
    store.add()
    marks = [DispatchMark(number, "alpha", KEEPER) for number in (1, 2, 3, 4)]
    assert store.write(dispatching.mark_dispatched, *marks) == [True, False, True, False]


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("dispatched_to", [None, KEEPER])
def test_only_waiting_commands_end_unstarted(
    store: Store, status: Status, dispatched_to: str | None
) -> None:
    command = store.add(status, dispatched_to=dispatched_to)
    before = store.row(command)
    ending = Ending(command.number, Status.TIMED_OUT, "too long", AT)
    allowed = status is Status.QUEUED and dispatched_to is None
    assert store.write(dispatching.end_unstarted, ending) == [allowed]
    after = {"status": "timed_out", "reason": "too long", "finished_at": AT}
    assert store.row(command) == before | (after if allowed else {})


@pytest.mark.parametrize("status", Status)
def test_only_open_commands_become_lost(store: Store, status: Status) -> None:
    command = store.add(status, dispatched_to=KEEPER)
    before = store.row(command)
    ending = Ending(command.number, Status.LOST, "nobody knows", AT)
    assert store.write(dispatching.end_unknown, ending) == [not status.final]
    after = {"status": "lost", "reason": "nobody knows", "finished_at": AT}
    assert store.row(command) == before | ({} if status.final else after)


@pytest.mark.parametrize("status", Status)
def test_only_queued_commands_are_requeued(store: Store, status: Status) -> None:
    mine, others = store.add(status, dispatched_to=KEEPER), store.add(dispatched_to="another")
    queued = status is Status.QUEUED
    assert store.write(dispatching.requeue_unstarted, dispatching.Requeue(KEEPER, AT)) == [
        int(queued)
    ]
    assert store.row(mine)["dispatched_to"] == (None if queued else KEEPER)
    assert store.row(others)["dispatched_to"] == "another"


# Stops


def stop(
    store: Store, command: UUID, signal: str = "SIGTERM", grace: float | None = None
) -> object:
    (result,) = store.write(stop_requests.request_stop, StopRequest(command, signal, grace, AT))
    return result


def test_a_stop_ends_a_waiting_command(store: Store) -> None:
    command = store.add()
    result = stop(store, command.id)
    assert result == store.find(command.id)
    assert result.status is Status.STOPPED
    assert result.outcome == Outcome(finished_at=AT, reason="stopped before it started")


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING, Status.STOPPING])
def test_a_stop_of_a_dispatched_command_is_stored(store: Store, status: Status) -> None:
    command = store.add(status, dispatched_to=KEEPER, grace_seconds=4)
    before = store.row(command)
    result = stop(store, command.id, "SIGHUP")
    assert result.status is status
    wish = {"stop_signal": "SIGHUP", "stop_grace_seconds": 4}
    assert store.row(command) == before | wish


def test_the_first_signal_and_the_shortest_grace_of_many_stops_count(store: Store) -> None:
    command = store.add(Status.RUNNING)
    for signal, grace in (("SIGHUP", 5), ("SIGTERM", 7), ("SIGINT", 3), ("SIGTERM", 4)):
        stop(store, command.id, signal, grace)
    row = store.row(command)
    assert (row["stop_signal"], row["stop_grace_seconds"]) == ("SIGHUP", 3)


@pytest.mark.parametrize("status", [status for status in Status if status.final])
def test_a_finished_command_cannot_be_stopped(store: Store, status: Status) -> None:
    command = store.add(status)
    before = store.row(command)
    result = stop(store, command.id)
    assert isinstance(result, AlreadyFinishedError)
    assert result.command == store.find(command.id)
    assert store.row(command) == before


def test_an_unknown_or_deleted_command_cannot_be_stopped(store: Store) -> None:
    command = store.add()
    store.set(command, deleted_at=1)
    for identifier in (command.id, UUID(int=1)):
        assert isinstance(stop(store, identifier), UnknownCommandError)


# Deletion


def delete(store: Store, command: UUID, at: int = AT) -> object:
    (result,) = store.write(deletions.mark_deleted, Deletion(command, at))
    return result


@pytest.mark.parametrize("status", Status)
def test_only_finished_commands_are_deleted(store: Store, status: Status) -> None:
    command = store.add(status, labels={"a": "b"})
    before = store.row(command)
    result = delete(store, command.id)
    if status.final:
        assert result == command.number
        assert store.row(command) == before | {"deleted_at": AT}
        assert store.count("labels") == 0
        # Repeated after a commit whose answer was lost, it has the same result.
        assert delete(store, command.id) == command.number
        assert isinstance(delete(store, command.id, AT + 1), UnknownCommandError)
        with pytest.raises(UnknownCommandError):
            store.find(command.id)
    else:
        assert isinstance(result, NotFinishedError)
        assert store.row(command) == before
        assert store.count("labels") == 1


# Changes from a journal


@pytest.mark.parametrize("actual", Status)
def test_a_change_from_another_status_stores_nothing(store: Store, actual: Status) -> None:
    command = store.add(actual)
    before = store.row(command)
    for known in set(Status) - {actual}:
        change = CommandChange(command.number, known, Status.LOST, Outcome(reason="x"))
        with pytest.raises(StatusConflictError):
            store.store_changes(changes=[change])
        assert store.row(command) == before


@pytest.mark.parametrize(
    ("before", "after"),
    [pair for pair in itertools.product(Status, Status) if may_become(*pair)],
)
def test_a_change_from_the_expected_status_is_stored(
    store: Store, before: Status, after: Status
) -> None:
    command = store.add(before)
    outcome = Outcome(started_at=1, exit_code=3, reason="why", stdout_bytes=4)
    change = CommandChange(command.number, before, after, outcome)
    store.store_changes(changes=[change])
    expected = replace(command, status=after, waiting_for=None, outcome=outcome)
    assert store.find(command.id) == expected


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("wish", [None, "SIGTERM"])
def test_a_command_given_back_waits_again_or_is_stopped(
    store: Store, status: Status, wish: str | None
) -> None:
    command = store.add(status, dispatched_to=KEEPER)
    store.set(command, stop_signal=wish)
    before = store.row(command)
    change = CommandChange(
        command.number, Status.QUEUED, Status.QUEUED, Outcome(), given_back_at=AT
    )
    stopped = store.store_changes(changes=[change])
    assert stopped == [{command.number} if status is Status.QUEUED and wish else set()]
    after: dict[str, object] = {}
    if status is Status.QUEUED and wish is None:
        after = {"dispatched_to": None}
    elif status is Status.QUEUED:
        after = {"status": "stopped", "reason": "stopped before it started", "finished_at": AT}
    assert store.row(command) == before | after
