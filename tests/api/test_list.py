"""Lists: order, previews, filters alone and combined, and paging by cursor."""

import base64
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from support.problems import assert_invalid
from support.service import Service, running_service

from .test_submit import KEYS

PREVIEW_KEYS = [
    "script_preview" if name == "script" else name for name in KEYS if name not in ("args", "env")
]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service("--max-running", "2") as shared:
        yield shared


@pytest.fixture(scope="module")
def some(service: Service) -> dict[str, dict[str, Any]]:
    """Commands of every kind, by name, the oldest first."""
    made = {
        "good": service.run("echo Needle", name="good", labels={"team": "db", "env": "prod"}),
        "bad": service.run("exit 3 # %_100", name="bad", labels={"team": "db", "env": "test"}),
        "ugly": service.run("kill -9 $$", name="ÜGLY Needle", labels={"team": "web=1"}),
        "late": service.run("sleep 100", name="late", timeout_seconds=0.1),
        "plain": service.run("true"),
    }
    stopped = service.submit("sleep 100", name="stopped", labels={"team": "db"})
    service.client.post(f"/v1/commands/{stopped['id']}/stop", json={"grace_seconds": 0})
    made["stopped"] = service.wait(stopped["id"])
    return made


def listed(service: Service, *query: tuple[str, str]) -> list[dict[str, Any]]:
    response = service.client.get("/v1/commands", params=[*query, ("limit", "1000")])
    assert response.status_code == 200, response.text
    answer = response.json()
    assert list(answer) == ["items", "next_cursor"]
    assert answer["next_cursor"] is None
    return list(answer["items"])


def names(service: Service, some: dict[str, dict[str, Any]], *query: tuple[str, str]) -> list[str]:
    """Return the names of the commands of `some` that a query lists, in the order of the list."""
    by_id = {command["id"]: name for name, command in some.items()}
    return [by_id[item["id"]] for item in listed(service, *query) if item["id"] in by_id]


def test_newest_first_and_with_a_preview_for_the_script(
    service: Service, some: dict[str, dict[str, Any]]
) -> None:
    assert names(service, some) == list(some)[::-1]
    script = "# " + "ä" * 300
    command = service.run(script, args=["a"], env={"K": "V"})
    item = listed(service)[0]
    assert list(item) == PREVIEW_KEYS
    assert item["script_preview"] == script[:200]
    del item["script_preview"]
    for large in ("script", "args", "env"):
        del command[large]
    assert item == command


FILTERS = [
    ([("status", "succeeded")], ["plain", "good"]),
    ([("status", "failed")], ["ugly", "bad"]),
    ([("status", "timed_out"), ("status", "stopped")], ["stopped", "late"]),
    ([("status", "lost")], []),
    ([("status", "stopped"), ("status", "stopped")], ["stopped"]),
    ([("label", "team=db")], ["stopped", "bad", "good"]),
    ([("label", "team=db"), ("label", "env=prod")], ["good"]),
    ([("label", "env=prod"), ("label", "team=db")], ["good"]),
    ([("label", "team=web=1")], ["ugly"]),
    ([("label", "team=d")], []),
    ([("label", "team=")], []),
    ([("label", "team=db"), ("label", "team=web=1")], []),
    ([("label", "Team=db")], []),
    ([("q", "needle")], ["ugly", "good"]),
    ([("q", "NEEDLE")], ["ugly", "good"]),
    ([("q", "%_100")], ["bad"]),
    ([("q", "n%dle")], []),
    ([("q", "üGLY")], []),
    ([("q", "Ügly")], ["ugly"]),
    ([("q", "no such text")], []),
    ([("host", "no-such-host")], []),
    ([("status", "failed"), ("label", "team=db")], ["bad"]),
    ([("status", "failed"), ("q", "needle"), ("label", "team=web=1")], ["ugly"]),
    ([("status", "succeeded"), ("q", "needle"), ("label", "env=test")], []),
]


@pytest.mark.parametrize(("query", "wanted"), FILTERS, ids=str)
def test_filters(
    service: Service,
    some: dict[str, dict[str, Any]],
    query: list[tuple[str, str]],
    wanted: list[str],
) -> None:
    assert names(service, some, *query) == wanted


def test_the_beginning_or_end_of_an_id_finds_it(
    service: Service, some: dict[str, dict[str, Any]]
) -> None:
    ids = [command["id"] for command in some.values()]
    good, bad = some["good"]["id"], some["bad"]["id"]
    for part in (good, good[-8:], good[-8:].upper(), good[-13:], good[:35], good.upper()):
        assert names(service, some, ("id", part)) == ["good"]
    # Ids that were made in the same minute begin with the same characters.
    begin = good[:8]
    alike = [name for name, command in some.items() if command["id"].startswith(begin)]
    assert names(service, some, ("id", begin)) == alike[::-1]
    assert names(service, some, ("id", begin), ("q", "needle"), ("status", "succeeded")) == ["good"]
    assert names(service, some, ("id", bad[-8:]), ("status", "failed")) == ["bad"]
    assert names(service, some, ("id", bad[-8:]), ("status", "succeeded")) == []
    for part in ("-" * 8, "f" * 36, good[4:14], good[-9:-1]):
        assert names(service, some, ("id", part)) == [], part
    assert len(set(ids)) == len(ids)


def test_q_finds_text_beyond_the_preview(service: Service) -> None:
    command = service.run("#" * 5000 + " beyond-the-preview")
    assert [item["id"] for item in listed(service, ("q", "Beyond-The"))] == [command["id"]]


def test_the_host_filter(service: Service, some: dict[str, dict[str, Any]]) -> None:
    host = some["good"]["host"]
    assert names(service, some, ("host", host)) == list(some)[::-1]
    assert names(service, some, ("host", host), ("status", "timed_out")) == ["late"]


def test_time_filters_exclude_the_given_time(
    service: Service, some: dict[str, dict[str, Any]]
) -> None:
    moment = some["ugly"]["created_at"]
    assert names(service, some, ("created_after", moment)) == ["stopped", "plain", "late"]
    assert names(service, some, ("created_before", moment)) == ["bad", "good"]
    after, before = some["good"]["created_at"], some["late"]["created_at"]
    query = [("created_after", after), ("created_before", before)]
    assert names(service, some, *query) == ["ugly", "bad"]
    assert names(service, some, *query, ("label", "team=db"), ("q", "exit")) == ["bad"]


def test_times_may_be_of_any_zone(service: Service, some: dict[str, dict[str, Any]]) -> None:
    moment = datetime.fromisoformat(some["ugly"]["created_at"])
    local = (moment + timedelta(hours=2)).replace(tzinfo=None).isoformat() + "+02:00"
    assert names(service, some, ("created_before", local)) == ["bad", "good"]


def test_a_cursor_walks_all_pages_while_new_ones_come(
    service: Service, some: dict[str, dict[str, Any]]
) -> None:
    everything = [item["id"] for item in listed(service)]
    for limit in (1, 2, len(everything), len(everything) + 1):
        walked: list[str] = []
        cursor = None
        while True:
            query = {"limit": limit} | ({"cursor": cursor} if cursor else {})
            answer = service.client.get("/v1/commands", params=query).json()
            assert len(answer["items"]) <= limit
            walked += [item["id"] for item in answer["items"]]
            cursor = answer["next_cursor"]
            if cursor is None:
                break
            newest = service.submit("true")["id"]
        assert walked == everything
        everything = [item["id"] for item in listed(service)]
        assert limit > len(walked) - 1 or newest in everything


def test_a_cursor_walks_with_every_filter(
    service: Service, some: dict[str, dict[str, Any]]
) -> None:
    query = {"label": "team=db", "status": ["failed", "succeeded", "stopped"], "q": "e", "limit": 1}
    walked = []
    answer = service.client.get("/v1/commands", params=query).json()
    while True:
        walked += [item["name"] for item in answer["items"]]
        if answer["next_cursor"] is None:
            break
        query["cursor"] = answer["next_cursor"]
        answer = service.client.get("/v1/commands", params=query).json()
    assert walked == ["stopped", "bad", "good"]


def test_a_cursor_survives_the_deletion_of_its_command(service: Service) -> None:
    made = [service.run("true", labels={"walk": "deletion"}) for _ in range(4)]
    query = {"label": "walk=deletion", "limit": 2}
    first = service.client.get("/v1/commands", params=query).json()
    assert service.client.delete(f"/v1/commands/{made[2]['id']}").status_code == 204
    query["cursor"] = first["next_cursor"]
    second = service.client.get("/v1/commands", params=query).json()
    assert [item["id"] for item in second["items"]] == [made[1]["id"], made[0]["id"]]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    "changed",
    [{"status": "failed"}, {"id": "0199c0de"}, {"label": "team=db"}, {"q": "e"}, {"host": "x"},
     {"created_after": "2020-01-01T00:00:00Z"}, {"created_before": "2120-01-01T00:00:00Z"}],
    ids=str,
)  # fmt: skip
def test_a_cursor_is_bound_to_its_filters(
    service: Service, some: dict[str, dict[str, Any]], changed: dict[str, str]
) -> None:
    cursor = service.client.get("/v1/commands", params={"limit": 1}).json()["next_cursor"]
    response = service.client.get("/v1/commands", params={**changed, "cursor": cursor})
    assert_invalid(response, "cursor")
    # The page size is not part of the filters.
    other = service.client.get("/v1/commands", params={"limit": 3, "cursor": cursor})
    assert len(other.json()["items"]) == 3


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "!!!!", "ä", "AAAA", encoded(5), encoded([]), encoded([1]), encoded([1, "x"]),
     encoded(["1", ""]), encoded([True, ""]), encoded([0, ""]), encoded([-1, ""]),
     encoded([1 << 70, ""]), encoded({"a": 1, "b": 2}), encoded([None, None]), encoded("ab"),
     base64.urlsafe_b64encode(b"[" * 20_000).decode(), encoded([1.5, ""]),
     base64.urlsafe_b64encode(b"[" + b"9" * 6000 + b', ""]').decode()],
    ids=range(20),
)  # fmt: skip
def test_an_invalid_cursor_is_refused(service: Service, cursor: str) -> None:
    assert_invalid(service.client.get("/v1/commands", params={"cursor": cursor}), "cursor")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("id=0199c0d", "id"),
        ("id=", "id"),
        ("id=0199c0dg", "id"),
        ("id=0199c0de%0a", "id"),
        ("id=0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55-", "id"),
        ("id=0199c0de&id=0199c0de", "id"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("q=a&q=b", "q"),
        ("q=%00", "q"),
        ("host=a&host=b", "host"),
        ("cursor=a&cursor=b", "cursor"),
        ("status=done", "status"),
        ("status=", "status"),
        ("status=failed&status=x", "status"),
        ("label=team", "label"),
        ("label=", "label"),
        ("created_after=yesterday", "created_after"),
        ("created_after=2026-11-23", "created_after"),
        ("created_after=2026-11-23T16:20:00", "created_after"),
        ("created_before=", "created_before"),
        ("created_before=5", "created_before"),
        ("created_before=2026-13-01T00:00:00Z", "created_before"),
        ("created_after=2020-01-01T00:00:00Z&created_after=2020-01-01T00:00:00Z", "created_after"),
        ("page=2", "page"),
        ("Status=failed", "Status"),
        ("wait=1", "wait"),
        ("x", "x"),
    ],
)
def test_invalid_parameters_are_refused_by_name(service: Service, query: str, field: str) -> None:
    assert_invalid(service.client.get(f"/v1/commands?{query}"), field)


@pytest.mark.parametrize("limit", [1, 1000])
def test_limits_at_their_bounds(service: Service, limit: int) -> None:
    response = service.client.get("/v1/commands", params={"limit": limit})
    assert response.status_code == 200


def test_the_default_page_has_fifty_commands(service: Service) -> None:
    made = [service.submit("true", labels={"many": "yes"})["id"] for _ in range(51)]
    answer = service.client.get("/v1/commands", params={"label": "many=yes"}).json()
    assert [item["id"] for item in answer["items"]] == made[:0:-1]
    assert answer["next_cursor"]
