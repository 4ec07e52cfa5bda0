"""Pages of commands: order, filters, and that the cost does not grow with the page."""

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, event, text

from scriptservice.model import Command, Filter, Status
from scriptservice.store import dispatching, listing
from support.store import CREATED, Store


def page(
    store: Store, wanted: Filter | None = None, limit: int = 100, before: int | None = None
) -> list[Command]:
    return list(store.read(listing.page, wanted or Filter(), limit, before))


def numbers(store: Store, wanted: Filter, limit: int = 100, before: int | None = None) -> list[int]:
    return [command.number for command in page(store, wanted, limit, before)]


def test_newest_first_bounded_by_limit_and_place(store: Store) -> None:
    for _ in range(5):
        store.add()
    assert numbers(store, Filter()) == [5, 4, 3, 2, 1]
    assert numbers(store, Filter(), limit=2) == [5, 4]
    assert numbers(store, Filter(), before=4) == [3, 2, 1]
    assert numbers(store, Filter(), limit=1, before=2) == [1]
    assert numbers(store, Filter(), before=1) == []


def test_items_have_a_preview_and_no_standard_input(store: Store) -> None:
    script = "ä" * 500
    store.add(script=script, stdin="x" * 10, labels={"a": "b"}, args=("c",))
    (item,) = page(store)
    assert item.submission.script == script[:200]
    assert (item.submission.stdin, item.stdin_bytes) == (None, 10)
    assert (item.submission.labels, item.submission.args) == ({"a": "b"}, ("c",))


def test_deleted_commands_are_not_shown(store: Store) -> None:
    gone = store.add(labels={"a": "b"})
    store.add(labels={"a": "b"})
    store.set(gone, deleted_at=1)
    assert numbers(store, Filter()) == [2]
    assert numbers(store, Filter(labels=(("a", "b"),))) == [2]


@pytest.fixture
def filled(store: Store) -> Store:
    store.add(Status.SUCCEEDED, name="One", labels={"t": "x"}, script="echo Needle", host="alpha")
    store.add(Status.FAILED, name="two", labels={"t": "x", "u": "1"}, created_at=CREATED + 10)
    store.add(Status.FAILED, labels={"t": "y", "u": "1"}, host="beta", created_at=CREATED + 20)
    store.add(Status.LOST, name="NEEDLE Ü", labels={"t": "x", "u": "2"}, created_at=CREATED + 30)
    store.add(name="50%_", script="#" * 300 + "far", created_at=CREATED + 40)
    return store


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(statuses=(Status.FAILED,)), [3, 2]),
        (Filter(statuses=(Status.FAILED, Status.LOST)), [4, 3, 2]),
        (Filter(statuses=(Status.STOPPED,)), []),
        (Filter(labels=(("t", "x"),)), [4, 2, 1]),
        (Filter(labels=(("t", "x"), ("u", "1"))), [2]),
        (Filter(labels=(("u", "1"), ("t", "x"))), [2]),
        (Filter(labels=(("u", "1"), ("t", "x"), ("t", "x"))), [2]),
        (Filter(labels=(("t", "x"), ("t", "y"))), []),
        (Filter(labels=(("x", "t"),)), []),
        (Filter(text="needle"), [4, 1]),
        (Filter(text="NEEDLE"), [4, 1]),
        (Filter(text="ü"), []),
        (Filter(text="Ü"), [4]),
        (Filter(text="%"), [5]),
        (Filter(text="_"), [5]),
        (Filter(text="far"), [5]),
        (Filter(text=""), [5, 4, 3, 2, 1]),
        (Filter(host="alpha"), [1]),
        (Filter(host="beta", labels=(("u", "1"),)), [3]),
        (Filter(created_after=CREATED + 10), [5, 4, 3]),
        (Filter(created_before=CREATED + 10), [1]),
        (Filter(created_after=CREATED, created_before=CREATED + 40), [4, 3, 2]),
        (Filter(labels=(("t", "x"),), created_after=CREATED, text="needle"), [4]),
        (Filter(statuses=(Status.FAILED,), labels=(("u", "1"),), host="beta"), [3]),
    ],
    ids=str,
)
def test_filters_alone_and_together(filled: Store, wanted: Filter, found: list[int]) -> None:
    assert numbers(filled, wanted) == found
    walked: list[int] = []
    while part := numbers(filled, wanted, 1, walked[-1] if walked else None):
        walked += part
    assert walked == found


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(),
        Filter(statuses=(Status.FAILED,)),
        Filter(host="alpha"),
        Filter(labels=(("t", "x"),)),
        Filter(labels=(("t", "x"), ("u", "1"))),
    ],
    ids=str,
)
def test_no_page_sorts_or_reads_everything(store: Store, wanted: Filter) -> None:
    """The plan goes down an index and stops at the limit: page 10,000 costs what page 1 does."""
    assert_cheap(store, lambda connection: listing.page(connection, wanted, 50, 10_000))


def test_a_page_of_several_statuses_takes_the_newest_of_each(store: Store) -> None:
    """Merged are pages, never all that has one of these statuses."""
    wanted = Filter(statuses=(Status.SUCCEEDED, Status.FAILED, Status.LOST))
    plans = plans_of(store, lambda connection: listing.page(connection, wanted, 50, 10_000))
    assert sum("commands_by_status" in step for step in plans) == 3, plans
    assert not any("Seq Scan" in step or step.startswith("SCAN commands") for step in plans), plans


def test_what_waits_is_picked_in_the_order_of_its_index(store: Store) -> None:
    assert_cheap(store, lambda connection: dispatching.waiting(connection, "alpha", 64))
    plans = plans_of(store, lambda connection: dispatching.waiting(connection, "alpha", 64))
    assert any("commands_waiting" in step for step in plans), plans


@pytest.mark.parametrize("statuses", [(), (Status.FAILED,), (Status.FAILED, Status.LOST)], ids=str)
def test_a_common_label_is_not_gone_through_for_a_rare_one(
    store: Store, statuses: tuple[Status, ...]
) -> None:
    """Nor for a rare status: what comes out is the same whichever leads."""
    for number in range(12):
        store.add(Status.SUCCEEDED if number % 2 else Status.LOST, labels={"t": "common"})
    rare = store.add(Status.FAILED, labels={"t": "common", "u": "rare"})
    for labels in ((("t", "common"), ("u", "rare")), (("u", "rare"), ("t", "common"))):
        wanted = Filter(labels=labels, statuses=statuses)
        assert numbers(store, wanted) == [rare.number]
        led = store.read(listing.leading_label, wanted)
        assert led in ([None, ("u", "rare")] if statuses else [("u", "rare")])
    common = Filter(labels=(("t", "common"),), statuses=(Status.FAILED,))
    assert numbers(store, common) == [rare.number]
    assert store.read(listing.leading_label, common) is None
    assert numbers(store, Filter(labels=(("t", "common"),), statuses=(Status.LOST,)), limit=2) == [
        11,
        9,
    ]


def assert_cheap(store: Store, query: Callable[[Connection], object]) -> None:
    plans = plans_of(store, query)
    assert plans
    dear = ("TEMP B-TREE", "Seq Scan", "Sort")
    for step in plans:
        # A subquery may be gone through: it has a limit of its own.
        bounded = step.startswith(("SCAN anon", "SCAN (subquery"))
        assert "INDEX" in step or bounded or not step.startswith("SCAN"), plans
        assert not any(word in step for word in dear), plans


def plans_of(store: Store, query: Callable[[Connection], object]) -> list[str]:
    """Return the steps by which a database answers what is asked of it."""
    plans: list[str] = []
    sqlite = store.database.writing.dialect.name == "sqlite"
    with store.database.reading.begin() as connection:
        if sqlite:
            ask = "EXPLAIN QUERY PLAN"
        else:
            ask = "EXPLAIN"
            # With a few rows it would take the direct way; here it takes one that grows well.
            for way in ("seqscan", "bitmapscan", "sort"):
                connection.execute(text(f"SET LOCAL enable_{way} = off"))

        def explain(_: object, cursor: object, statement: str, values: object, *__: object) -> None:
            if statement.startswith("SELECT"):
                rows = cursor.connection.execute(f"{ask} {statement}", values)
                plans.extend(row[-1] for row in rows)

        event.listen(connection, "before_cursor_execute", explain)
        query(connection)
    return plans
