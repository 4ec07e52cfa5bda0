"""Repeating and deleting commands."""

from typing import Any

import pytest

from support.problems import assert_invalid, assert_problem
from support.service import Service, eventually

UNKNOWN = "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55"
OF_ONE_RUN = {"id", "created_at", "rerun_of", "status", "output", "usage", "reason", "signal"} | {
    "started_at", "exited_at", "finished_at", "exit_code", "leftovers_killed",
}  # fmt: skip


def rerun(service: Service, command: dict[str, Any]) -> dict[str, Any]:
    response = service.client.post(f"/v1/commands/{command['id']}/rerun")
    assert response.status_code == 201, response.text
    assert response.headers["location"] == f"/v1/commands/{response.json()['id']}"
    return dict(response.json())


def submitted(command: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in command.items() if name not in OF_ONE_RUN}


def count(service: Service, table: str) -> int:
    return int(service.sql(f"SELECT count(*) FROM {table}")[0][0])


# Rerun


def test_a_rerun_submits_every_field_again(service: Service) -> None:
    host = service.client.get("/v1/hosts").json()["items"][0]["name"]
    command = service.run(
        'cat; echo "$1 $A $PWD"',
        name="a name",
        labels={"team": "db", "b": "2"},
        interpreter=["/bin/bash", "-u"],
        args=["one", "two"],
        env={"A": "1"},
        working_directory="/",
        stdin="its input\n",
        timeout_seconds=99.5,
        queue_timeout_seconds=98,
        grace_seconds=1.5,
        leftover_seconds=0,
        output_limit_bytes=1000,
        on_output_limit="stop",
        limits={"cpu_seconds": 90, "open_files": 200, "nice": 2},
        priority=-3,
        host=host,
    )
    again = rerun(service, command)
    assert again["id"] != command["id"]
    assert again["rerun_of"] == command["id"]
    assert again["status"] == "queued"
    assert submitted(again) == submitted(command)
    service.wait(again["id"])
    assert service.bytes_of(again["id"]) == b"its input\none 1 /\n"
    assert service.bytes_of(again["id"]) == service.bytes_of(command["id"])


def test_a_rerun_of_a_rerun_names_the_one_before(service: Service) -> None:
    command = service.run("true")
    again = rerun(service, command)
    assert rerun(service, again)["rerun_of"] == again["id"]


@pytest.mark.parametrize("script", ["exit 3", "kill -9 $$"])
def test_a_failed_command_can_run_again(service: Service, script: str) -> None:
    again = rerun(service, service.run(script))
    assert service.wait(again["id"])["status"] == "failed"


def test_a_command_that_could_not_start_can_run_again(service: Service) -> None:
    again = rerun(service, service.run("true", interpreter=["/no/such"]))
    assert service.wait(again["id"])["reason"].startswith("cannot run /no/such")


def test_a_running_command_can_run_again(service: Service) -> None:
    command = service.submit("sleep 3600", stdin="")
    service.wait_for(command["id"], "running")
    again = rerun(service, command)
    service.wait_for(again["id"], "running")
    for each in (command, again):
        service.client.post(f"/v1/commands/{each['id']}/stop", json={"grace_seconds": 0})
        service.wait(each["id"])
    third = rerun(service, command)
    service.client.post(f"/v1/commands/{third['id']}/stop", json={"grace_seconds": 0})
    assert service.wait(third["id"])["status"] == "stopped"


def test_a_rerun_keeps_an_empty_standard_input(service: Service) -> None:
    command = service.run("readlink /proc/$$/fd/0", stdin="")
    again = rerun(service, command)
    service.wait(again["id"])
    assert b"/dev/null" not in service.bytes_of(again["id"])


def test_an_invalid_rerun_is_refused(service: Service) -> None:
    assert_problem(service.client.post(f"/v1/commands/{UNKNOWN}/rerun"), "not-found")
    assert_problem(service.client.post("/v1/commands/x/rerun"), "not-found")
    command = service.run("true")
    response = service.client.post(f"/v1/commands/{command['id']}/rerun", params={"name": 1})
    assert_invalid(response, "name")


# Delete


def test_a_deleted_command_is_not_found_by_any_route(service: Service) -> None:
    command = service.run("seq 100000", name="doomed", labels={"doomed": "yes"})
    url = f"/v1/commands/{command['id']}"
    response = service.client.delete(url)
    assert (response.status_code, response.content) == (204, b"")
    assert "content-type" not in response.headers
    for answer in (
        service.client.get(url),
        service.client.delete(url),
        service.client.get(f"{url}/output"),
        service.client.post(f"{url}/stop"),
        service.client.post(f"{url}/rerun"),
    ):
        assert_problem(answer, "not-found")
    for query in ({"label": "doomed=yes"}, {"q": "doomed"}, {"limit": 1000}):
        listed = service.client.get("/v1/commands", params=query).json()["items"]
        assert command["id"] not in [item["id"] for item in listed]


def test_the_output_of_deleted_commands_leaves_the_database(service: Service) -> None:
    for item in service.client.get("/v1/commands", params={"limit": 1000}).json()["items"]:
        service.wait(item["id"])
        assert service.client.delete(f"/v1/commands/{item['id']}").status_code == 204
    # More chunks than one transaction removes.
    command = service.run("head -c 20000000 /dev/zero", labels={"a": "b"})
    assert count(service, "output") > 64
    assert service.client.delete(f"/v1/commands/{command['id']}").status_code == 204
    for table in ("output", "labels", "inputs", "commands"):
        eventually(lambda table=table: count(service, table) == 0, f"{table} to be empty")


def test_an_unfinished_command_cannot_be_deleted(service: Service) -> None:
    command = service.submit("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    url = f"/v1/commands/{command['id']}"
    service.wait_for_output(command["id"], b"ready")
    assert_problem(service.client.delete(url), "not-finished")
    service.client.post(f"{url}/stop")
    service.wait_for(command["id"], "stopping")
    assert_problem(service.client.delete(url), "not-finished")
    service.client.post(f"{url}/stop", json={"grace_seconds": 0})
    service.wait(command["id"])
    assert service.client.delete(url).status_code == 204


def test_an_invalid_deletion_is_refused(service: Service) -> None:
    assert_problem(service.client.delete(f"/v1/commands/{UNKNOWN}"), "not-found")
    command = service.run("true")
    response = service.client.delete(f"/v1/commands/{command['id']}", params={"force": "true"})
    assert_invalid(response, "force")
    assert service.get(command["id"]) == command


def test_the_repeated_command_may_be_deleted(service: Service) -> None:
    command = service.run("true")
    again = rerun(service, command)
    assert service.client.delete(f"/v1/commands/{command['id']}").status_code == 204
    assert service.wait(again["id"])["rerun_of"] == command["id"]
