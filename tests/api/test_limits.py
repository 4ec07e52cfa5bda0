"""What ends a command without anyone asking: time-outs, output limits, the end of its leftovers."""

import time
from datetime import datetime
from typing import Any

import pytest

from support.service import Service, processes_with


def seconds_between(command: dict[str, Any], start: str, end: str) -> float:
    moments = [datetime.fromisoformat(command[name]) for name in (start, end)]
    return (moments[1] - moments[0]).total_seconds()


# Time-outs


def test_a_timeout_stops_a_command(service: Service) -> None:
    command = service.run("echo begun; sleep 100", timeout_seconds=0.3)
    assert command["status"] == "timed_out"
    assert command["reason"] == "its time-out passed"
    assert (command["exit_code"], command["signal"]) == (None, "SIGTERM")
    assert 0.3 <= seconds_between(command, "started_at", "finished_at") < 5
    assert service.bytes_of(command["id"]) == b"begun\n"


def test_what_ignores_a_timeout_is_killed_after_its_grace(service: Service) -> None:
    script = "trap 'echo asked' TERM; while :; do sleep 0.05; done"
    command = service.run(script, timeout_seconds=0.2, grace_seconds=0.3)
    assert command["status"] == "timed_out"
    assert command["signal"] == "SIGKILL"
    assert seconds_between(command, "started_at", "finished_at") >= 0.5
    assert b"asked" in service.bytes_of(command["id"])


def test_a_timed_out_command_keeps_its_exit_code(service: Service) -> None:
    command = service.run("trap 'exit 7' TERM; sleep 100 & wait", timeout_seconds=0.2)
    assert (command["status"], command["exit_code"]) == ("timed_out", 7)


def test_a_timeout_that_is_not_reached_changes_nothing(service: Service) -> None:
    assert service.run("true", timeout_seconds=100)["status"] == "succeeded"


def test_a_command_is_stopping_while_its_timeout_is_at_work(service: Service) -> None:
    script = "trap '' TERM; while :; do sleep 0.05; done"
    command = service.submit(script, timeout_seconds=0.1, grace_seconds=100)
    service.wait_for(command["id"], "stopping")
    response = service.client.post(f"/v1/commands/{command['id']}/stop", json={"grace_seconds": 0})
    assert response.status_code == 202
    # The first cause is the one that counts.
    assert service.wait(command["id"])["status"] == "timed_out"


# Output limits


@pytest.mark.parametrize("limit", [0, 1, 999, 1000])
def test_output_beyond_the_limit_is_counted_and_not_kept(service: Service, limit: int) -> None:
    command = service.run("printf '%01000d' 7", output_limit_bytes=limit)
    assert command["status"] == "succeeded"
    assert command["output"]["bytes"] == limit
    assert command["output"]["discarded_bytes"] == 1000 - limit
    assert service.bytes_of(command["id"]) == (b"0" * 999 + b"7")[:limit]


def test_the_limit_is_of_both_streams_together(service: Service) -> None:
    script = "printf 12345; sleep 0.1; printf 67890 >&2; sleep 0.1; printf x"
    command = service.run(script, output_limit_bytes=8)
    assert command["output"] == {
        "bytes": 8,
        "stdout_bytes": 5,
        "stderr_bytes": 3,
        "discarded_bytes": 3,
    }


def test_discarding_goes_on_until_the_end(service: Service) -> None:
    command = service.run("head -c 5000000 /dev/zero", output_limit_bytes=100_000)
    assert command["status"] == "succeeded"
    assert command["output"]["bytes"] == 100_000
    assert command["output"]["discarded_bytes"] == 4_900_000


def test_an_output_limit_can_stop_a_command(service: Service) -> None:
    command = service.run("yes", output_limit_bytes=10_000, on_output_limit="stop")
    assert command["status"] == "failed"
    assert command["reason"] == "it was stopped at its output limit"
    assert command["output"]["bytes"] == 10_000
    assert command["signal"] in ("SIGTERM", "SIGPIPE")
    assert service.bytes_of(command["id"]) == b"y\n" * 5000


def test_output_of_exactly_the_limit_stops_nothing(service: Service) -> None:
    command = service.run("printf 12345", output_limit_bytes=5, on_output_limit="stop")
    assert command["status"] == "succeeded"
    assert command["output"]["discarded_bytes"] == 0


# Leftovers


def test_background_children_may_finish_within_their_time(service: Service) -> None:
    script = "(sleep 0.3; echo late) & echo early"
    command = service.run(script, leftover_seconds=20)
    assert command["status"] == "succeeded"
    assert command["leftovers_killed"] == 0
    assert service.bytes_of(command["id"]) == b"early\nlate\n"
    assert seconds_between(command, "exited_at", "finished_at") >= 0.25


def test_background_children_that_stay_are_asked_to_end_and_counted(service: Service) -> None:
    script = "sleep 100 & sleep 100 & echo done"
    began = time.monotonic()
    command = service.run(script, leftover_seconds=0.2)
    assert time.monotonic() - began < 10
    assert (command["status"], command["exit_code"]) == ("succeeded", 0)
    assert command["leftovers_killed"] == 2
    assert not processes_with(command["id"])


def test_background_children_that_ignore_sigterm_are_killed_a_second_later(
    service: Service,
) -> None:
    script = "(trap '' TERM; echo ready; while :; do sleep 0.05; done) & sleep 0.2"
    command = service.run(script, leftover_seconds=0)
    assert command["status"] == "succeeded"
    assert command["leftovers_killed"] >= 1
    assert 1 <= seconds_between(command, "exited_at", "finished_at") < 5
    assert not processes_with(command["id"])


def test_a_child_with_a_session_of_its_own_does_not_outlive_its_command(service: Service) -> None:
    command = service.run("setsid sleep 100 & sleep 0.1", leftover_seconds=0)
    assert command["leftovers_killed"] == 1
    assert not processes_with(command["id"])
