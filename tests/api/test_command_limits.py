"""The limits of a command: they apply from its first instruction, and a reason names them."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from support.problems import assert_invalid
from support.service import MAINLY_ON_SQLITE, Service

pytestmark = MAINLY_ON_SQLITE

BURN = "while :; do :; done"
CPU_LIMIT = {"cpu_seconds": 1}
OPEN_MANY = "ulimit -n; while :; do exec {file}</dev/null || exit 9; done"


@pytest.fixture(scope="module")
def burnt(service: Service) -> dict[str, dict[str, Any]]:
    """Scripts that use CPU time, after they have ended; they run at the same time."""
    scripts = {
        "default": BURN,
        "ignoring": f"trap '' XCPU; {BURN}",
        "handling": f"trap 'echo asked; exit 7' XCPU; {BURN}",
        "child": f"({BURN}); echo went on",
    }
    ids = {name: service.submit(each, limits=CPU_LIMIT)["id"] for name, each in scripts.items()}
    return {name: service.wait(each) for name, each in ids.items()}


REASON = "killed: it used more than 1 CPU seconds"


def test_a_script_that_uses_too_much_cpu_time_is_ended(burnt: dict[str, dict[str, Any]]) -> None:
    command = burnt["default"]
    assert (command["status"], command["signal"]) == ("failed", "SIGXCPU")
    assert command["reason"] == REASON
    assert sum(command["usage"][f"{kind}_seconds"] for kind in ("user", "system")) > 0.5


def test_a_script_that_ignores_the_signal_is_killed(burnt: dict[str, dict[str, Any]]) -> None:
    command = burnt["ignoring"]
    assert (command["status"], command["signal"]) == ("failed", "SIGKILL")
    assert command["reason"] == REASON


def test_a_script_may_handle_the_signal(service: Service, burnt: dict[str, dict[str, Any]]) -> None:
    command = burnt["handling"]
    assert (command["exit_code"], command["reason"]) == (7, "it exited with code 7")
    assert service.bytes_of(command["id"]) == b"asked\n"


def test_the_limit_is_that_of_each_process(
    service: Service, burnt: dict[str, dict[str, Any]]
) -> None:
    assert burnt["child"]["status"] == "succeeded"
    assert service.bytes_of(burnt["child"]["id"]).endswith(b"went on\n")


@pytest.mark.parametrize("name", ["XCPU", "KILL"])
def test_a_signal_from_elsewhere_is_not_a_limit(service: Service, name: str) -> None:
    command = service.run(f"kill -{name} $$", limits={"cpu_seconds": 1})
    assert command["reason"] == f"it was ended by SIG{name}"


def test_a_script_has_no_more_files_than_its_limit(service: Service) -> None:
    command = service.run(OPEN_MANY, limits={"open_files": 64})
    assert (command["status"], command["exit_code"]) == ("failed", 9)
    assert service.bytes_of(command["id"], stream="stdout") == b"64\n"
    assert b"Too many open files" in service.bytes_of(command["id"], stream="stderr")


@pytest.mark.parametrize("interpreter", ["/bin/bash", "/bin/sh", "python3"])
def test_the_smallest_limit_of_files_is_enough_to_start(service: Service, interpreter: str) -> None:
    script = "import ssl, json" if interpreter == "python3" else "ls / | cat >/dev/null"
    command = service.run(script, interpreter=[interpreter], limits={"open_files": 64})
    assert command["status"] == "succeeded", command


def test_more_files_than_the_service_may_have_is_as_many_as_it_may_have(service: Service) -> None:
    command = service.run("ulimit -Hn", limits={"open_files": 1 << 30})
    unlimited = service.run("ulimit -Hn")
    assert service.bytes_of(command["id"]) == service.bytes_of(unlimited["id"])


def test_nice_is_added_and_inherited(service: Service) -> None:
    command = service.run("nice; (nice)", limits={"nice": 7})
    expected = min(19, os.nice(0) + 7)
    assert service.bytes_of(command["id"]) == f"{expected}\n{expected}\n".encode()


@pytest.mark.parametrize("method", ["--use-launcher", "--no-use-launcher"])
@pytest.mark.needs_root
def test_limits_apply_to_root_and_in_each_way_to_start(make_service: Any, method: str) -> None:
    service = make_service("--run-as", "root", method).start()
    limits = {"nice": 7, "open_files": 100, "cpu_seconds": 1.5}
    command = service.run("nice; ulimit -n; ulimit -St; ulimit -Ht", limits=limits)
    expected = f"{min(19, os.nice(0) + 7)}\n100\n2\n3\n"
    assert service.bytes_of(command["id"]) == expected.encode()


# The fields


def test_limits_are_shown_as_they_were_submitted(service: Service) -> None:
    given = {"cpu_seconds": 5, "nice": 0, "open_files": None}
    command = service.run("true", limits=given)
    assert command["limits"] == {"cpu_seconds": 5, "nice": 0}
    (item,) = service.client.get(f"/v1/commands?id={command['id']}").json()["items"]
    assert item["limits"] == command["limits"]
    again = service.client.post(f"/v1/commands/{command['id']}/rerun").json()
    assert again["limits"] == command["limits"]


@pytest.mark.parametrize("given", [None, {}, {"nice": None}])
def test_no_limits_are_null(service: Service, given: Any) -> None:
    assert service.submit("true", limits=given)["limits"] is None


# Limits of the tree


@pytest.fixture(scope="module")
def without_controllers(service: Service) -> Iterator[Service]:
    if "memory_bytes" in service.client.get("/readyz").json()["limits"]:
        own = Service(None, "--no-use-cgroups")
        try:
            yield own.start()
        finally:
            own.close()
    else:
        yield service


@pytest.mark.parametrize(
    ("limits", "controller"), [({"memory_bytes": 1 << 30}, "memory"), ({"processes": 50}, "pids")]
)
def test_a_limit_of_the_tree_without_its_controller_is_refused(
    without_controllers: Service, limits: dict[str, int], controller: str
) -> None:
    body = {"script": "true", "limits": {"nice": 1, **limits}}
    problem = assert_invalid(without_controllers.client.post("/v1/commands", json=body), "limits")
    (error,) = problem["errors"]
    assert error["field"] == f"limits.{next(iter(limits))}"
    assert "cannot be set on this host" in error["message"]
    assert error["message"].endswith(f"cgroup v2 of its own with the controller {controller}")
