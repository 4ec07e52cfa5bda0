"""Submitting commands as JSON: what is accepted, and the resulting commands."""

import json
import re
from datetime import UTC, datetime
from uuid import UUID

import pytest

from support.problems import assert_problem
from support.service import Service

KEYS = [
    "id", "status", "name", "labels", "script", "interpreter", "args", "env",
    "working_directory", "stdin_bytes", "interactive", "pty", "timeout_seconds",
    "queue_timeout_seconds", "grace_seconds", "leftover_seconds", "output_limit_bytes",
    "on_output_limit", "priority", "concurrency", "waiting_for", "host", "created_by", "rerun_of",
    "created_at", "started_at", "exited_at", "finished_at", "exit_code", "signal", "reason",
    "leftovers_killed", "output", "usage",
]  # fmt: skip
MEBIBYTE = 1 << 20


def test_a_script_runs_and_its_output_and_exit_code_are_kept(service: Service) -> None:
    command = service.run("echo hello; echo oops >&2; exit 3")
    assert command["status"] == "failed"
    assert command["exit_code"] == 3
    assert command["reason"] == "it exited with code 3"
    assert service.bytes_of(command["id"], stream="stdout") == b"hello\n"
    assert service.bytes_of(command["id"], stream="stderr") == b"oops\n"
    assert command["output"] == {
        "bytes": 11,
        "stdout_bytes": 6,
        "stderr_bytes": 5,
        "discarded_bytes": 0,
    }


def test_a_command_has_the_fields_of_the_contract_in_their_order(service: Service) -> None:
    response = service.client.post(
        "/v1/commands",
        json={
            "script": "pg_dump() { :; }; pg_dump app\n",
            "name": "nightly backup",
            "labels": {"team": "db"},
            "env": {"PGHOST": "db1"},
            "timeout_seconds": 3600,
        },
    )
    assert response.status_code == 201
    assert response.headers["content-type"] == "application/json"
    command = response.json()
    assert list(command) == KEYS
    assert response.headers["location"] == f"/v1/commands/{command['id']}"
    identifier = UUID(command["id"])
    assert identifier.version == 7
    assert str(identifier) == command["id"]
    created = datetime.fromisoformat(command["created_at"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", command["created_at"])
    assert abs((datetime.now(UTC) - created).total_seconds()) < 60
    host = service.client.get("/v1/hosts").json()["items"][0]["name"]
    assert command == {
        "id": command["id"],
        "status": "queued",
        "name": "nightly backup",
        "labels": {"team": "db"},
        "script": "pg_dump() { :; }; pg_dump app\n",
        "interpreter": ["/bin/bash"],
        "args": [],
        "env": {"PGHOST": "db1"},
        "working_directory": None,
        "stdin_bytes": 0,
        "interactive": False,
        "pty": None,
        "timeout_seconds": 3600,
        "queue_timeout_seconds": None,
        "grace_seconds": 10,
        "leftover_seconds": 2,
        "output_limit_bytes": 10 << 30,
        "on_output_limit": "discard",
        "priority": 0,
        "concurrency": None,
        "waiting_for": None,
        "host": host,
        "created_by": "admin",
        "rerun_of": None,
        "created_at": command["created_at"],
        "started_at": None,
        "exited_at": None,
        "finished_at": None,
        "exit_code": None,
        "signal": None,
        "reason": None,
        "leftovers_killed": 0,
        "output": {"bytes": 0, "stdout_bytes": 0, "stderr_bytes": 0, "discarded_bytes": 0},
        "usage": {"user_seconds": None, "system_seconds": None, "max_rss_bytes": None},
    }
    assert '"timeout_seconds":3600,' in response.text  # not 3600.0
    finished = service.wait(command["id"])
    assert list(finished) == KEYS
    assert list(finished["output"]) == list(command["output"])
    assert list(finished["usage"]) == list(command["usage"])
    assert service.client.get(response.headers["location"]).json() == finished


def test_a_finished_command_has_times_and_usage(service: Service) -> None:
    command = service.run("i=0; while ((i++ < 50000)); do :; done; echo done")
    assert command["status"] == "succeeded"
    assert (command["exit_code"], command["signal"], command["reason"]) == (0, None, None)
    times = [command[name] for name in ("created_at", "started_at", "exited_at", "finished_at")]
    assert times == sorted(times)
    assert command["usage"]["user_seconds"] > 0
    assert command["usage"]["system_seconds"] >= 0
    assert command["usage"]["max_rss_bytes"] > 1 << 20
    assert command["leftovers_killed"] == 0


def test_a_signal_excludes_an_exit_code(service: Service) -> None:
    command = service.run("kill -KILL $$")
    assert command["status"] == "failed"
    assert (command["exit_code"], command["signal"]) == (None, "SIGKILL")
    assert command["reason"] == "it was ended by SIGKILL"


def test_an_exit_code_above_128_is_no_signal(service: Service) -> None:
    command = service.run("exit 137")
    assert (command["exit_code"], command["signal"]) == (137, None)


VALID = [
    {"name": "n" * 200},
    {"name": ""},
    {"name": None},
    {"labels": {"k" * 63: "v" * 255}},
    {"labels": {f"key{number}": "" for number in range(64)}},
    {"labels": {"0aZ._/-": "any = välue"}},
    {"interpreter": ["/bin/bash", "-e", "-u"]},
    {"interpreter": None},
    {"args": ["", "a b", "$(x)", "-n", "ä\n"]},
    {"env": {"_": "x", "A1_b": "", "LONG": "x" * (131072 - 6)}},
    {"working_directory": "/"},
    {"stdin": ""},
    {"stdin": "x" * MEBIBYTE},
    {"stdin": "nul \0 is text"},
    {"timeout_seconds": 0.5},
    {"timeout_seconds": 1e300},
    {"queue_timeout_seconds": 1e300},
    {"queue_timeout_seconds": 0.25},
    {"grace_seconds": 0},
    {"grace_seconds": 3600},
    {"leftover_seconds": 0},
    {"leftover_seconds": 3600},
    {"output_limit_bytes": 0},
    {"output_limit_bytes": (1 << 63) - 1},
    {"on_output_limit": "stop"},
    {"priority": -100},
    {"priority": 100},
    {"host": None},
]


@pytest.mark.parametrize("fields", VALID, ids=lambda fields: json.dumps(fields)[:40])
def test_each_field_is_accepted_at_its_extremes(
    service: Service, fields: dict[str, object]
) -> None:
    command = service.submit("true", **fields)
    for name, value in fields.items():
        if name == "stdin":
            assert command["stdin_bytes"] == len(str(value).encode())
        elif name == "interpreter":
            assert command[name] == (value or ["/bin/bash"])
        elif name != "host":
            assert command[name] == value
    assert service.wait(command["id"])["status"] == "succeeded"


def test_the_host_can_be_named(service: Service) -> None:
    host = service.client.get("/v1/hosts").json()["items"][0]["name"]
    assert service.run("true", host=host)["host"] == host


def test_fractions_stay_and_whole_numbers_are_whole(service: Service) -> None:
    command = service.submit("true", grace_seconds=1.5, leftover_seconds=3.0)
    assert json.dumps([command["grace_seconds"], command["leftover_seconds"]]) == "[1.5, 3]"


def test_a_script_of_exactly_one_mebibyte_runs(service: Service) -> None:
    end = "\necho last\n"
    script = "#" * (MEBIBYTE - len(end)) + end
    command = service.submit(script)
    assert command["script"] == script
    assert service.wait(command["id"])["status"] == "succeeded"
    assert service.bytes_of(command["id"]) == b"last\n"


def test_a_script_of_one_byte_runs(service: Service) -> None:
    assert service.run(":")["status"] == "succeeded"


def test_the_size_of_a_script_is_counted_in_bytes(service: Service) -> None:
    assert service.submit("#" + "ä" * (MEBIBYTE // 2 - 1) + "\n")["status"] == "queued"
    response = service.client.post("/v1/commands", json={"script": "#" + "ä" * (MEBIBYTE // 2)})
    assert_problem(response, "validation")


def test_json_may_name_its_charset(service: Service) -> None:
    response = service.client.post(
        "/v1/commands",
        content='{"script": "echo ä"}'.encode(),
        headers={"Content-Type": "Application/JSON; charset=utf-8"},
    )
    assert response.status_code == 201
    assert service.wait(response.json()["id"])["status"] == "succeeded"
    assert service.bytes_of(response.json()["id"]) == "ä\n".encode()
