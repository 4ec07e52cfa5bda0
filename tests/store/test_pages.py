"""Pages of commands: order, filters, and a cost that does not grow with the page's number."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import Connection, event, text

from scriptservice.model import Command, Filter, Status
from scriptservice.store.queries.listing import listing, walks
from scriptservice.store.queries.listing.time_slice import TimeSlice
from scriptservice.store.queries.queueing.waiting_commands import pick_waiting
from support.store import CREATED, Store


def page(
    store: Store, wanted: Filter | None = None, limit: int = 100, before: int | None = None
) -> list[Command]:
    found: listing.CommandListing = store.read(
        listing.list_commands, wanted or Filter(), limit, before
    )
    return found.items


def numbers(store: Store, wanted: Filter, limit: int = 100, before: int | None = None) -> list[int]:
    return [command.number for command in page(store, wanted, limit, before)]


def test_a_page_is_newest_first_and_respects_limit_and_before(store: Store) -> None:
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
    assert item.submission.labels == {"a": "b"}


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


WALKED = [
    Filter(text="needle"),
    Filter(text="nothing has this"),
    Filter(host="alpha", text="e"),
    Filter(created_after=CREATED + 5),
    Filter(created_before=CREATED + 15),
    Filter(created_after=CREATED + 3, created_before=CREATED + 30, labels=(("t", "x"),)),
    Filter(labels=(("t", "x"), ("u", "1"))),
    Filter(labels=(("t", "x"),), statuses=(Status.FAILED, Status.LOST)),
    Filter(statuses=(Status.FAILED, Status.LOST), text="e"),
    Filter(statuses=(Status.FAILED,), host="alpha"),
    Filter(id_part="ffffffff"),
    Filter(id_part="ffffffff", text="needle"),
]


@pytest.fixture
def many(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A few dozen commands of every kind."""
    monkeypatch.setattr(walks, "MAX_LISTED", 4)
    each = [Status.SUCCEEDED, Status.FAILED, Status.LOST, Status.QUEUED]
    for number in range(40):
        store.add(
            each[number % 4],
            id=UUID(int=((number + 1) << 64) + (0xFFFFFFFF if number % 3 else 0)),
            host="alpha" if number % 5 else None,
            script="echo Needle" if number % 7 == 0 else "else",
            labels={"t": "xyz"[number % 3], "u": str(number % 2)},
            # As if the clock had been set back in between.
            created_at=CREATED + (number if number < 20 else number - 15),
        )
    for number in (3, 17, 18, 40):
        store.set(store.read(listing.list_commands, Filter(), 1, number + 1).items[0], deleted_at=1)
    return store


def matching(everything: list[Command], wanted: Filter) -> list[int]:
    """Return the numbers of the commands that match a filter."""
    return [
        command.number
        for command in everything
        if (not wanted.statuses or command.status in wanted.statuses)
        and set(wanted.labels) <= set(command.submission.labels.items())
        and (wanted.host in (None, command.host))
        and (wanted.created_after is None or command.created_at > wanted.created_after)
        and (wanted.created_before is None or command.created_at < wanted.created_before)
        and (wanted.text is None or wanted.text in command.submission.script.lower())
        and (wanted.id_part is None or str(command.id).replace("-", "").endswith(wanted.id_part))
    ]


COUNTED = (1, 3, walks.MAX_COUNTED)
"""Filters that match at least this many commands count as common."""
WINDOWS = ((1, 5), (7, 2), (1000, 3))
USUAL = {(1, 1), (1, 7), (3, 7), (walks.MAX_COUNTED, 1000)}
"""Combinations of limits that are tested with all filters."""


@pytest.mark.parametrize(
    ("counted", "window", "limit"),
    [
        pytest.param(counted, *each, marks=[] if (counted, each[0]) in USUAL else pytest.mark.long)
        for counted in COUNTED
        for each in WINDOWS
    ],
)
def test_pages_ended_by_a_time_slice_hide_and_repeat_no_command(
    many: Store, counted: int, window: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short a time slice is, each page continues where the previous one ended."""
    monkeypatch.setattr(walks, "MAX_COUNTED", counted)
    monkeypatch.setattr(listing, "FIRST_WINDOW", window)
    everything = [many.find(item.id) for item in page(many)]
    assert len(everything) == 36
    for wanted in WALKED:
        found = matching(everything, wanted)
        for seconds in (0.0, float("inf")):
            walked: list[int] = []
            before: int | None = None
            for _ in range(50):
                part = many.read(listing.list_commands, wanted, limit, before, TimeSlice(seconds))
                assert len(part.items) <= limit
                walked += [item.number for item in part.items]
                if part.before is None:
                    break
                assert before is None or part.before < before
                before = part.before
            assert walked == found, wanted


def test_a_page_of_a_scan_may_be_empty_and_is_continued(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "FIRST_WINDOW", 2)
    for _ in range(6):
        store.add()
    wanted = Filter(text="nothing has this")
    places = []
    before: int | None = None
    while (
        part := store.read(listing.list_commands, wanted, 5, before, TimeSlice(0))
    ).before is not None:
        assert part.items == []
        places.append(before := part.before)
    assert places == [5, 3]


@pytest.mark.parametrize("wanted", [*WALKED, Filter(id_part="0199c0de")], ids=str)
@pytest.mark.parametrize("common", [0, walks.MAX_COUNTED])
def test_a_window_reads_no_more_than_its_own_rows(
    store: Store, wanted: Filter, common: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step follows one index in order, or reads listed numbers, and stops at its bound."""
    monkeypatch.setattr(walks, "MAX_COUNTED", common)
    plans = plans_of(
        store, lambda connection: listing.list_commands(connection, wanted, 50, 10_000)
    )
    assert plans
    assert not any("Seq Scan" in step or step.startswith("SCAN commands") for step in plans), plans


def test_impossible_labels_cost_nothing(store: Store) -> None:
    store.add(labels={"t": "x"})
    several = Filter(labels=(("t", "x"), ("t", "y")))
    many = Filter(labels=tuple((f"t{number}", "x") for number in range(65)))
    for wanted in (several, many):
        assert (
            plans_of(
                store, lambda connection, it=wanted: listing.list_commands(connection, it, 5, 9)
            )
            == []
        )
        assert page(store, wanted) == []


ID = "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55"


@pytest.mark.parametrize(
    ("part", "found"),
    [
        (ID, True),
        (ID[:8], True),
        (ID[:9], True),
        (ID[:10], True),
        (ID[:35], True),
        (ID[-8:], True),
        (ID[-12:], True),
        (ID[-13:], True),
        (ID[-20:], True),
        (ID[1:], True),
        (ID[1:9], False),
        (ID[5:25], False),
        (ID[:8] + ID[9:12], False),
        (ID[-14] + ID[-12:], False),
        (ID[:8] + "-0000", False),
        ("0000" + ID[-8:], False),
        ("-" * 8, False),
        ("0" * 36, False),
        ("00000000", False),
    ],
)
def test_commands_are_found_by_the_beginning_or_the_end_of_their_id(
    store: Store, part: str, found: bool
) -> None:
    store.add(id=UUID(int=UUID(ID).int ^ (1 << 126) ^ (1 << 20)))
    store.add(id=UUID(ID))
    store.add(id=UUID(int=(1 << 100) + 1))
    assert numbers(store, Filter(id_part=part)) == ([2] if found else [])


def test_several_ids_with_one_beginning_or_end_come_in_order(store: Store) -> None:
    begin, end = int("0199c0de", 16) << 96, int("0199c0de", 16)
    for value in (begin + 1, end + (1 << 100), begin + 7, begin + end, end + (1 << 40), 5):
        store.add(id=UUID(int=value))
    wanted = Filter(id_part="0199c0de")
    assert numbers(store, wanted) == [5, 4, 3, 2, 1]
    for limit in (1, 2):
        walked: list[int] = []
        while part := numbers(store, wanted, limit, walked[-1] if walked else None):
            walked += part
        assert walked == [5, 4, 3, 2, 1]


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
    """The plan follows an index and stops at the limit: page 10,000 costs what page 1 does."""
    assert_cheap(store, lambda connection: listing.list_commands(connection, wanted, 50, 10_000))


def test_a_page_of_several_statuses_merges_the_newest_of_each(store: Store) -> None:
    """The query merges one page of each status, never all commands of a status."""
    wanted = Filter(statuses=(Status.SUCCEEDED, Status.FAILED, Status.LOST))
    plans = plans_of(
        store, lambda connection: listing.list_commands(connection, wanted, 50, 10_000)
    )
    assert sum("commands_by_status" in step for step in plans) == 3, plans
    assert not any("Seq Scan" in step or step.startswith("SCAN commands") for step in plans), plans


def test_waiting_commands_are_read_in_the_order_of_their_index(store: Store) -> None:
    assert_cheap(store, lambda connection: pick_waiting(connection, "alpha", 64))
    plans = plans_of(store, lambda connection: pick_waiting(connection, "alpha", 64))
    assert any("commands_waiting" in step for step in plans), plans


@pytest.mark.parametrize("statuses", [(), (Status.FAILED,), (Status.FAILED, Status.LOST)], ids=str)
def test_a_rare_label_leads_before_a_common_one(store: Store, statuses: tuple[Status, ...]) -> None:
    """The same holds for a rare status; the result is the same whichever filter leads."""
    for number in range(12):
        store.add(Status.SUCCEEDED if number % 2 else Status.LOST, labels={"t": "common"})
    rare = store.add(Status.FAILED, labels={"t": "common", "u": "rare"})
    for labels in ((("t", "common"), ("u", "rare")), (("u", "rare"), ("t", "common"))):
        wanted = Filter(labels=labels, statuses=statuses)
        assert numbers(store, wanted) == [rare.number]
        # The leading filter is not among the filters to look up.
        rest = store.read(walks.choose_leading_filter, wanted)[0].rest
        leads_rare = rest == replace(wanted, labels=(("t", "common"),))
        assert leads_rare or (statuses and rest == replace(wanted, statuses=()))
    common = Filter(labels=(("t", "common"),), statuses=(Status.FAILED,))
    assert numbers(store, common) == [rare.number]
    assert store.read(walks.choose_leading_filter, common)[0].rest == replace(common, statuses=())
    assert numbers(store, Filter(labels=(("t", "common"),), statuses=(Status.LOST,)), limit=2) == [
        11,
        9,
    ]


def assert_cheap(store: Store, query: Callable[[Connection], object]) -> None:
    plans = plans_of(store, query)
    assert plans
    dear = ("TEMP B-TREE", "Seq Scan", "Sort")
    for step in plans:
        # A subquery may be scanned: it has its own limit.
        bounded = step.startswith(("SCAN anon", "SCAN (subquery"))
        assert "INDEX" in step or bounded or not step.startswith("SCAN"), plans
        assert not any(word in step for word in dear), plans


def plans_of(store: Store, query: Callable[[Connection], object]) -> list[str]:
    """Return the query plans of the statements that a function runs."""
    plans: list[str] = []
    sqlite = store.database.writing.dialect.name == "sqlite"
    with store.database.reading.begin() as connection:
        if sqlite:
            ask = "EXPLAIN QUERY PLAN"
        else:
            ask = "EXPLAIN"
            # With few rows the planner prefers a scan; here it must show the plan for many rows.
            for way in ("seqscan", "bitmapscan", "sort"):
                connection.execute(text(f"SET LOCAL enable_{way} = off"))

        def explain(_: object, cursor: object, statement: str, values: object, *__: object) -> None:
            if statement.startswith("SELECT"):
                rows = cursor.connection.execute(f"{ask} {statement}", values)
                plans.extend(row[-1] for row in rows)

        event.listen(connection, "before_cursor_execute", explain)
        query(connection)
    return plans
