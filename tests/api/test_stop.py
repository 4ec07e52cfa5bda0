"""Stops: the signal, the grace period, SIGKILL for the whole tree, and stops that come too late."""

import contextlib
import threading
import time
from typing import Any

import httpx2 as httpx
import psutil
import pytest

from support.problems import assert_invalid, assert_problem
from support.service import PATIENCE_SECONDS, Service, eventually, processes_with

UNKNOWN = "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55"
STUBBORN = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.02; done"


def stop(service: Service, command: dict[str, Any], **body: Any) -> httpx.Response:
    url = f"/v1/commands/{command['id']}/stop"
    return service.client.post(url, json=body) if body else service.client.post(url)


def started(service: Service, script: str, **fields: Any) -> dict[str, Any]:
    """Submit a script and wait until it has printed that it is ready."""
    command = service.submit(script, **fields)
    service.wait_for_output(command["id"], b"ready")
    return command


def test_a_stop_ends_a_command(service: Service) -> None:
    command = started(service, "echo ready; sleep 3600")
    response = stop(service, command)
    assert response.status_code == 202
    assert response.json()["id"] == command["id"]
    assert response.json()["status"] in ("running", "stopping")
    ended = service.wait(command["id"])
    assert (ended["status"], ended["signal"], ended["exit_code"]) == ("stopped", "SIGTERM", None)
    assert ended["reason"] is None
    assert not processes_with(command["id"])


@pytest.mark.parametrize(
    ("name", "number"), [("SIGUSR1", "USR1"), ("usr1", "USR1"), ("INT", "INT")]
)
def test_the_signal_can_be_chosen_with_or_without_sig(
    service: Service, name: str, number: str
) -> None:
    script = f"trap 'echo got; exit 0' {number}; echo ready; while :; do sleep 0.02; done"
    command = started(service, script)
    assert stop(service, command, signal=name).status_code == 202
    ended = service.wait(command["id"])
    # After a stop the status is stopped, whatever the exit code.
    assert (ended["status"], ended["exit_code"]) == ("stopped", 0)
    assert service.bytes_of(command["id"], stream="stdout") == b"ready\ngot\n"


def test_the_signal_goes_to_the_whole_group(service: Service) -> None:
    script = "bash -c \"trap 'echo child; exit' TERM; echo ready; while :; do sleep 0.02; done\""
    command = started(service, f"{script}; echo after")
    stop(service, command)
    assert service.wait(command["id"])["status"] == "stopped"
    assert service.bytes_of(command["id"], stream="stdout") == b"ready\nchild\n"


def test_a_stopped_process_is_continued(service: Service) -> None:
    script = "trap 'echo woken; exit 3' TERM; echo ready; kill -STOP $$; sleep 3600"
    command = started(service, script)
    eventually(lambda: has_stopped_process(command["id"]), "a stopped process")
    stop(service, command)
    ended = service.wait(command["id"])
    assert (ended["status"], ended["exit_code"]) == ("stopped", 3)


def has_stopped_process(command: str) -> bool:
    """Return whether a process of a command is suspended."""
    for process in processes_with(command):
        with contextlib.suppress(psutil.Error):
            if process.status() == psutil.STATUS_STOPPED:
                return True
    return False


def test_after_the_grace_the_whole_tree_is_killed(service: Service) -> None:
    command = started(service, f"setsid bash -c 'trap \"\" TERM; sleep 3600' & {STUBBORN}")
    assert stop(service, command, grace_seconds=3600).status_code == 202
    service.wait_for_output(command["id"], b"asked")
    # It has received the signal; the grace period that will end starts only now.
    began = time.monotonic()
    response = stop(service, command, grace_seconds=0.3)
    assert response.status_code == 202
    ended = service.wait(command["id"])
    assert time.monotonic() - began >= 0.3
    assert (ended["status"], ended["signal"]) == ("stopped", "SIGKILL")
    assert not processes_with(command["id"])


def test_no_grace_kills_at_once(service: Service) -> None:
    command = started(service, STUBBORN)
    stop(service, command, grace_seconds=0)
    ended = service.wait(command["id"])
    assert (ended["status"], ended["signal"]) == ("stopped", "SIGKILL")
    assert service.bytes_of(command["id"]) == b"ready\n"


def test_the_grace_of_the_command_applies_unless_the_stop_has_another(service: Service) -> None:
    command = started(service, STUBBORN, grace_seconds=0.2)
    stop(service, command)
    assert service.wait(command["id"])["status"] == "stopped"


def test_a_second_stop_can_only_shorten_the_grace(service: Service) -> None:
    command = started(service, STUBBORN + " # USR1 would end it")
    assert stop(service, command, grace_seconds=1000).status_code == 202
    service.wait_for(command["id"], "stopping")
    service.wait_for_output(command["id"], b"asked")
    for body in ({"signal": "USR1"}, {"grace_seconds": 2000}, {"signal": "TERM"}):
        response = stop(service, command, **body)
        assert response.status_code == 202
        assert response.json()["status"] == "stopping"
    assert service.get(command["id"])["status"] == "stopping"
    assert stop(service, command, grace_seconds=0.1).status_code == 202
    ended = service.wait(command["id"])
    assert (ended["status"], ended["signal"]) == ("stopped", "SIGKILL")
    assert service.bytes_of(command["id"]).count(b"asked") == 1


def test_a_finished_command_cannot_be_stopped(service: Service) -> None:
    command = service.run("exit 4")
    problem = assert_problem(stop(service, command), "already-finished")
    assert problem["command"] == command
    assert service.get(command["id"]) == command


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"signal": "SIGNAL"}, "signal"),
        ({"signal": "9"}, "signal"),
        ({"signal": ""}, "signal"),
        ({"signal": 15}, "signal"),
        ({"signal": None}, "signal"),
        ({"signal": "SIG_DFL"}, "signal"),
        ({"grace_seconds": -1}, "grace_seconds"),
        ({"grace_seconds": 3601}, "grace_seconds"),
        ({"grace_seconds": "1"}, "grace_seconds"),
        ({"grace_seconds": True}, "grace_seconds"),
        ({"grace": 1}, "grace"),
        ([], "body"),
    ],
    ids=str,
)
def test_an_invalid_stop_is_refused_and_stops_nothing(
    service: Service, body: object, field: str
) -> None:
    command = started(service, "echo ready; sleep 3600")
    url = f"/v1/commands/{command['id']}/stop"
    assert_invalid(service.client.post(url, json=body), field)
    assert service.get(command["id"])["status"] == "running"
    stop(service, command, grace_seconds=0)
    assert service.wait(command["id"])["status"] == "stopped"


def test_a_malformed_stop_is_refused(service: Service) -> None:
    url = f"/v1/commands/{UNKNOWN}/stop"
    json = {"Content-Type": "application/json"}
    assert_problem(service.client.post(url, content=b"{", headers=json), "bad-request")
    assert_problem(service.client.post(url, content=b"x"), "unsupported-media-type")
    assert_problem(service.client.post(url, content=b"x" * 70_000, headers=json), "too-large")
    assert_invalid(service.client.post(url, params={"signal": "TERM"}), "signal")


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_an_unknown_command_cannot_be_stopped(service: Service, body: bytes) -> None:
    response = service.client.post(
        f"/v1/commands/{UNKNOWN}/stop", content=body, headers={"Content-Type": "application/json"}
    )
    assert_problem(response, "not-found")


def test_a_stop_that_races_the_exit_never_confuses_the_end(service: Service) -> None:
    """202 means an attempt, 409 that it had ended; a final status never changes."""
    seen: set[tuple[int, str]] = set()
    for round_number in range(40):
        command = service.submit("exit 0")
        if round_number % 4:
            threading.Event().wait(round_number / 2000)  # another moment of the race each round
        response = stop(service, command)
        assert response.status_code in (202, 409)
        ended = service.wait(command["id"])
        if response.status_code == 409:
            assert response.json()["command"] == ended
        assert ended["status"] in ("succeeded", "stopped"), ended
        if ended["status"] == "succeeded":
            assert (ended["exit_code"], ended["signal"]) == (0, None)
        assert service.get(command["id"]) == ended
        seen.add((response.status_code, ended["status"]))
    assert {status for status, _ in seen} <= {202, 409}


def test_many_stops_at_once_have_one_effect(service: Service) -> None:
    command = started(service, STUBBORN)
    answers: list[int] = []

    def ask() -> None:
        # The grace period is so long that the command outlives the slowest request.
        with httpx.Client(
            base_url=service.url,
            headers=service.headers,
            timeout=PATIENCE_SECONDS,
            verify=False,
        ) as client:
            response = client.post(
                f"/v1/commands/{command['id']}/stop", json={"grace_seconds": 3600}
            )
            answers.append(response.status_code)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert answers == [202] * 8
    service.wait_for_output(command["id"], b"asked")
    assert stop(service, command, grace_seconds=0).status_code == 202
    assert service.wait(command["id"])["status"] == "stopped"
    assert service.bytes_of(command["id"]).count(b"asked") == 1


def test_an_exit_recorded_before_the_stop_decides_the_status(service: Service) -> None:
    command = service.submit("sleep 3600 & exit 5", leftover_seconds=3600)
    exited = wait_for_exit(service, command)
    assert exited["status"] == "running"
    assert stop(service, command, grace_seconds=0).status_code == 202
    ended = service.wait(command["id"])
    assert (ended["status"], ended["exit_code"]) == ("failed", 5)
    assert ended["leftovers_killed"] == 1


def wait_for_exit(service: Service, command: dict[str, Any]) -> dict[str, Any]:
    def exited() -> dict[str, Any] | None:
        found = service.get(command["id"])
        return found if found["exited_at"] else None

    return dict(eventually(exited, "the script's own exit"))
