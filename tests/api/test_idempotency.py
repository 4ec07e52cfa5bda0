"""Idempotency-Keys: a request that is sent twice acts once."""

import threading
from typing import Any
from uuid import uuid4

import httpx2 as httpx
import pytest

from support.gates import Gate
from support.problems import assert_invalid, assert_problem
from support.scripts import stop
from support.service import MAINLY_ON_SQLITE, PATIENCE_SECONDS, Service

DAY_MICROSECONDS = 24 * 3600 * 1_000_000


def submit(service: Service, key: str, script: str = "true", path: str = "", **more: Any) -> Any:
    return service.client.post(
        f"/v1/commands{path}", json={"script": script, **more}, headers={"Idempotency-Key": key}
    )


def submit_raw(
    service: Service, key: str, script: bytes, kind: str = "text/plain", query: str = ""
) -> httpx.Response:
    headers = {"Idempotency-Key": key, "Content-Type": kind}
    return service.client.post(f"/v1/commands{query}", content=script, headers=headers)


def new_key() -> str:
    return str(uuid4())


def count(service: Service) -> int:
    return len(service.client.get("/v1/commands?limit=1000").json()["items"])


def assert_replayed(answer: httpx.Response, first: httpx.Response) -> None:
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == first.headers["location"]
    assert answer.headers["idempotent-replayed"] == "true"
    assert answer.json()["id"] == first.json()["id"]


def assert_mismatch(answer: httpx.Response) -> None:
    assert_problem(answer, "idempotency-mismatch")


def test_a_repeated_request_returns_the_command_in_its_current_state(service: Service) -> None:
    key, script = new_key(), "sleep 0.2; echo once; exit 3"
    first = submit(service, key, script)
    assert first.status_code == 201
    assert "idempotent-replayed" not in first.headers
    ended = service.wait(first.json()["id"])
    again = submit(service, key, script)
    assert_replayed(again, first)
    assert again.json() == ended
    assert service.bytes_of(ended["id"]) == b"once\n"


def test_without_a_key_each_request_is_another_command(service: Service) -> None:
    assert service.submit("true")["id"] != service.submit("true")["id"]
    assert submit(service, new_key()).json()["id"] != submit(service, new_key()).json()["id"]


def test_wait_is_not_compared(service: Service) -> None:
    gate = Gate(service)
    key, script = new_key(), f"{gate.wait}; exit 5"
    first = submit(service, key, script, "?wait=0")
    assert first.json()["exit_code"] is None
    gate.open()
    again = submit(service, key, script, "?wait=60")
    assert_replayed(again, first)
    assert again.json()["exit_code"] == 5
    assert_replayed(submit(service, key, script), first)
    raw = new_key()
    one = submit_raw(service, raw, b"true", query="?wait=0.1&name=n")
    assert_replayed(submit_raw(service, raw, b"true", query="?name=n"), one)


def test_any_other_difference_is_a_mismatch(service: Service) -> None:
    key = new_key()
    first = submit(service, key, "echo 1")
    before = count(service)
    assert_mismatch(submit(service, key, "echo 2"))
    assert_mismatch(submit(service, key, "echo 1", name="n"))
    assert_mismatch(submit_raw(service, key, b"echo 1"))
    path = f"/v1/commands/{first.json()['id']}/rerun"
    assert_mismatch(service.client.post(path, headers={"Idempotency-Key": key}))
    assert count(service) == before
    assert_replayed(submit(service, key, "echo 1"), first)


def test_query_and_content_type_are_compared(service: Service) -> None:
    key = new_key()
    first = submit_raw(service, key, b"true", query="?name=a&label=x=1&label=y=2")
    assert first.status_code == 201
    for query in ("", "?name=b&label=x=1&label=y=2", "?name=a&label=x=1"):
        assert_mismatch(submit_raw(service, key, b"true", query=query))
    query = "?name=a&label=x=1&label=y=2"
    assert_mismatch(submit_raw(service, key, b"true", "text/x-shellscript", query))
    assert_replayed(submit_raw(service, key, b"true", query=query), first)


def test_rerun_has_keys_too(service: Service) -> None:
    one, other = service.run("exit 1")["id"], service.run("exit 2")["id"]
    key = {"Idempotency-Key": new_key()}
    first = service.client.post(f"/v1/commands/{one}/rerun", headers=key)
    assert first.status_code == 201
    assert_replayed(service.client.post(f"/v1/commands/{one}/rerun?wait=60", headers=key), first)
    assert_mismatch(service.client.post(f"/v1/commands/{other}/rerun", headers=key))
    assert first.json()["rerun_of"] == one


def test_twenty_simultaneous_requests_with_one_key_are_one_command(service: Service) -> None:
    key, before = new_key(), count(service)
    headers = {**service.headers, "Idempotency-Key": key}
    body = {"script": "echo once >> at-once; sleep 0.1"}
    barrier = threading.Barrier(20)
    answers: list[httpx.Response] = []

    def ask() -> None:
        with httpx.Client(
            base_url=service.url, headers=headers, timeout=PATIENCE_SECONDS, verify=False
        ) as client:
            client.get("/healthz")
            barrier.wait(PATIENCE_SECONDS)
            answers.append(client.post("/v1/commands", json=body))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert [answer.status_code for answer in answers] == [201] * 20
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert count(service) == before + 1
    service.wait(answers[0].json()["id"])
    counted = service.run("cat at-once; rm at-once")
    assert service.bytes_of(counted["id"]) == b"once\n"


def test_twenty_different_requests_with_one_key_are_one_command(service: Service) -> None:
    key, before = new_key(), count(service)
    headers = {**service.headers, "Idempotency-Key": key}
    statuses: list[int] = []

    def ask(number: int) -> None:
        body = {"script": f"exit {number}"}
        with httpx.Client(
            base_url=service.url, headers=headers, timeout=PATIENCE_SECONDS, verify=False
        ) as client:
            statuses.append(client.post("/v1/commands", json=body).status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert sorted(statuses) == [201] + [422] * 19
    assert count(service) == before + 1


def test_a_repeated_request_for_a_deleted_command_is_gone(service: Service) -> None:
    key = new_key()
    first = submit(service, key)
    command = service.wait(first.json()["id"])["id"]
    assert service.client.delete(f"/v1/commands/{command}").status_code == 204
    before = count(service)
    for _ in range(2):
        assert_problem(submit(service, key), "gone")
    assert_mismatch(submit(service, key, "echo other"))
    assert count(service) == before
    again = {"Idempotency-Key": new_key()}
    origin = service.run("true")["id"]
    rerun = service.client.post(f"/v1/commands/{origin}/rerun", headers=again)
    assert rerun.status_code == 201
    service.wait(rerun.json()["id"])
    service.client.delete(f"/v1/commands/{rerun.json()['id']}")
    assert_problem(service.client.post(f"/v1/commands/{origin}/rerun", headers=again), "gone")


def test_a_rerun_is_replayed_after_its_original_was_deleted(service: Service) -> None:
    origin = service.run("true")["id"]
    key = {"Idempotency-Key": new_key()}
    first = service.client.post(f"/v1/commands/{origin}/rerun", headers=key)
    service.wait(first.json()["id"])
    assert service.client.delete(f"/v1/commands/{origin}").status_code == 204
    assert_replayed(service.client.post(f"/v1/commands/{origin}/rerun", headers=key), first)


def test_keys_of_refused_requests_are_not_kept(service: Service) -> None:
    key = new_key()
    assert_invalid(submit(service, key, "true", colour="red"), "colour")
    assert_invalid(submit(service, key, "true", host="no-such-host"), "host")
    unknown = "/v1/commands/0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55/rerun"
    answer = service.client.post(unknown, headers={"Idempotency-Key": key})
    assert_problem(answer, "not-found")
    first = submit(service, key)
    assert first.status_code == 201
    assert "idempotent-replayed" not in first.headers
    # A refused request does not change a stored key either.
    assert_invalid(submit(service, key, "true", colour="red"), "colour")
    assert_replayed(submit(service, key), first)


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_an_invalid_key_is_refused(service: Service, key: str) -> None:
    assert_invalid(submit(service, key), "Idempotency-Key")
    command = service.run("true")["id"]
    path = f"/v1/commands/{command}/rerun"
    answer = service.client.post(path, headers={"Idempotency-Key": key})
    assert_invalid(answer, "Idempotency-Key")


def test_two_keys_are_refused(service: Service) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")]
    answer = service.client.post("/v1/commands", json={"script": "true"}, headers=headers)
    assert_invalid(answer, "Idempotency-Key")


@pytest.mark.parametrize("key", ["k", "k" * 255, "a b", "' OR 1=1 --", "é"])
def test_a_valid_key_is_accepted(service: Service, key: str) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1")}
    body = {"script": "true"}
    first = service.client.post("/v1/commands", json=body, headers=headers)
    assert_replayed(service.client.post("/v1/commands", json=body, headers=headers), first)


def test_keys_outlive_a_server_kill(service: Service) -> None:
    key, before = new_key(), count(service)
    first = submit(service, key, "exec sleep 3600")
    service.wait_for(first.json()["id"], "running")
    service.close_client()
    service.kill_server()
    service.get(first.json()["id"])
    assert_replayed(submit(service, key, "exec sleep 3600"), first)
    stop(service, first.json()["id"], grace_seconds=0)
    assert count(service) == before + 1


@MAINLY_ON_SQLITE
def test_keys_are_kept_for_a_day(make_service: Any) -> None:
    service = make_service().start()
    young, old, deleted_key = new_key(), new_key(), new_key()
    first = {key: submit(service, key) for key in (young, old, deleted_key)}
    deleted = service.wait(first[deleted_key].json()["id"])["id"]
    assert service.client.delete(f"/v1/commands/{deleted}").status_code == 204
    assert service.stop() == 0
    hour = 3600 * 1_000_000
    for key, age in ((young, -hour), (old, hour), (deleted_key, hour)):
        service.sql(
            "UPDATE idempotency_keys SET created_at = created_at - :age WHERE key = :key",
            age=DAY_MICROSECONDS + age,
            key=key,
        )
    service.start()
    assert_replayed(submit(service, young), first[young])
    for key in (old, deleted_key):
        again = submit(service, key, "echo says otherwise")
        assert again.status_code == 201
        assert "idempotent-replayed" not in again.headers
        assert again.json()["id"] != first[key].json()["id"]
        assert_replayed(submit(service, key, "echo says otherwise"), again)


@MAINLY_ON_SQLITE
def test_a_repeated_request_is_answered_on_a_full_disk(make_service: Any) -> None:
    service = make_service().start()
    key = new_key()
    first = submit(service, key)
    assert service.stop() == 0
    service.flags = ("--min-free-bytes", str(1 << 60))
    service.start()
    assert_problem(submit(service, new_key()), "storage-full")
    assert_replayed(submit(service, key), first)
    assert_mismatch(submit(service, key, "echo other"))
