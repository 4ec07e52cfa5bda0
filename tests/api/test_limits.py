"""Limits that end a command without a stop: time-outs, output limits, leftover processes."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from support.gates import Gate
from support.problems import assert_invalid
from support.service import FINAL, MAINLY_ON_SQLITE, Service, eventually, processes_with


def seconds_between(command: dict[str, Any], start: str, end: str) -> float:
    moments = [datetime.fromisoformat(command[name]) for name in (start, end)]
    return (moments[1] - moments[0]).total_seconds()


def doubling(seconds: float) -> Iterator[float]:
    """Yield times, each twice the one before, so that one is long enough on any machine."""
    for _ in range(10):
        yield seconds
        seconds *= 2


# Time-outs


def test_a_timeout_stops_a_command(service: Service) -> None:
    """SIGTERM ends it: the grace period is longer than any test takes."""
    for timeout in doubling(0.3):
        began = time.monotonic()
        command = service.run("echo begun; sleep 3600", timeout_seconds=timeout, grace_seconds=3600)
        assert time.monotonic() - began >= timeout
        assert command["status"] == "timed_out"
        assert command["reason"] == "its time-out passed"
        assert (command["exit_code"], command["signal"]) == (None, "SIGTERM")
        if output := service.bytes_of(command["id"]):
            break
    assert output == b"begun\n"


def test_a_script_that_ignores_its_timeout_is_killed_after_its_grace(service: Service) -> None:
    script = "trap 'echo asked' TERM; while :; do sleep 0.05; done"
    for timeout in doubling(0.2):
        began = time.monotonic()
        command = service.run(script, timeout_seconds=timeout, grace_seconds=timeout)
        seconds = time.monotonic() - began
        assert command["status"] == "timed_out"
        if b"asked" in service.bytes_of(command["id"]):
            break
    assert command["signal"] == "SIGKILL"
    assert seconds >= 2 * timeout


def test_a_timed_out_command_keeps_its_exit_code(service: Service) -> None:
    script = "trap 'exit 7' TERM; echo ready; sleep 3600 & wait"
    for timeout in doubling(0.2):
        command = service.run(script, timeout_seconds=timeout, grace_seconds=3600)
        if b"ready" in service.bytes_of(command["id"]):
            break
    assert (command["status"], command["exit_code"]) == ("timed_out", 7)


def test_a_timeout_that_is_not_reached_changes_nothing(service: Service) -> None:
    assert service.run("true", timeout_seconds=3600)["status"] == "succeeded"


def test_a_timed_out_command_is_stopping_until_it_ends(service: Service) -> None:
    script = "trap '' TERM; echo deaf; while :; do sleep 0.05; done"
    for timeout in doubling(0.1):
        command = service.submit(script, timeout_seconds=timeout, grace_seconds=3600)
        if after_its_timeout(service, command["id"]) == "stopping":
            break
    response = service.client.post(f"/v1/commands/{command['id']}/stop", json={"grace_seconds": 0})
    assert response.status_code == 202
    # The first cause decides the status.
    assert service.wait(command["id"])["status"] == "timed_out"


def after_its_timeout(service: Service, command: str) -> str:
    """Wait until a command ignores its stop, or has ended before it could; return its status."""

    def status_after() -> str | None:
        status = str(service.get(command)["status"])
        is_deaf = b"deaf" in service.bytes_of(command)
        return status if status in FINAL or (status == "stopping" and is_deaf) else None

    return str(eventually(status_after, "its time-out"))


# Output limits


@pytest.mark.parametrize("limit", [0, 1, 999, 1000])
def test_output_beyond_the_limit_is_counted_and_not_kept(service: Service, limit: int) -> None:
    command = service.run("printf '%01000d' 7", output_limit_bytes=limit)
    assert command["status"] == "succeeded"
    assert command["output"]["bytes"] == limit
    assert command["output"]["discarded_bytes"] == 1000 - limit
    assert service.bytes_of(command["id"]) == (b"0" * 999 + b"7")[:limit]


def test_the_limit_is_of_both_streams_together(service: Service) -> None:
    first, second = Gate(service), Gate(service)
    script = f"printf 12345; {first.wait}; printf 67890 >&2; {second.wait}; printf x"
    command = service.submit(script, output_limit_bytes=8)
    service.wait_for_output(command["id"], b"12345")
    first.open()
    service.wait_for_output(command["id"], b"12345678")
    second.open()
    command = service.wait(command["id"])
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


RAW = {"Content-Type": "text/plain"}


def submit_raw(service: Service, script: str, **query: str) -> dict[str, Any]:
    response = service.client.post("/v1/commands", params=query, content=script, headers=RAW)
    assert response.status_code == 201, response.text
    return dict(response.json())


def test_a_command_without_an_output_limit_gets_10_gib_and_null_lifts_it(service: Service) -> None:
    assert service.submit("true")["output_limit_bytes"] == 10 << 30
    assert submit_raw(service, "true")["output_limit_bytes"] == 10 << 30
    unlimited = service.submit("true", output_limit_bytes=None)
    assert unlimited["output_limit_bytes"] is None
    assert submit_raw(service, "true", output_limit_bytes="null")["output_limit_bytes"] is None
    assert service.get(unlimited["id"])["output_limit_bytes"] is None


@MAINLY_ON_SQLITE
def test_the_default_output_limit_is_a_setting(make_service: Callable[..., Service]) -> None:
    limited = make_service("--output-limit-bytes", "1000").start()
    script = "printf '%03000d' 7"
    absent = limited.wait(limited.submit(script)["id"])
    raw = limited.wait(submit_raw(limited, script)["id"])
    for command in (absent, raw):
        assert command["output_limit_bytes"] == 1000
        assert command["output"]["bytes"] == 1000
        assert command["output"]["discarded_bytes"] == 2000
    unlimited = limited.run(script, output_limit_bytes=None)
    assert unlimited["output"]["bytes"] == 3000
    assert submit_raw(limited, "true", output_limit_bytes="7")["output_limit_bytes"] == 7
    given = limited.run(script, output_limit_bytes=2000)
    for command, limit in ((absent, 1000), (unlimited, None), (given, 2000)):
        again = limited.client.post(f"/v1/commands/{command['id']}/rerun").json()
        assert again["output_limit_bytes"] == limit
    items = limited.client.get("/v1/commands").json()["items"]
    discarded = {item["id"]: item["output"]["discarded_bytes"] for item in items}
    assert discarded[absent["id"]] == 2000


# Leftovers


def test_background_children_may_finish_within_their_time(service: Service) -> None:
    gate = Gate(service)
    command = service.submit(f"({gate.wait}; echo late) & echo early", leftover_seconds=3600)
    exited = eventually(lambda: exited_only(service, command["id"]), "the script's own exit")
    assert exited["status"] == "running"
    gate.open()
    command = service.wait(command["id"])
    assert command["status"] == "succeeded"
    assert command["leftovers_killed"] == 0
    assert service.bytes_of(command["id"]) == b"early\nlate\n"
    assert command["finished_at"] > command["exited_at"] == exited["exited_at"]


def exited_only(service: Service, command: str) -> dict[str, Any] | None:
    """Return a command whose script has exited."""
    found = service.get(command)
    return found if found["exited_at"] else None


def test_background_children_that_stay_are_asked_to_end_and_counted(service: Service) -> None:
    script = "sleep 3600 & sleep 3600 & echo done"
    command = service.run(script, leftover_seconds=0.2)
    assert (command["status"], command["exit_code"]) == ("succeeded", 0)
    assert command["leftovers_killed"] == 2
    assert not processes_with(command["id"])


def test_background_children_that_ignore_sigterm_are_killed_a_second_later(
    service: Service,
) -> None:
    script = "read -r < <(trap '' TERM; echo ready; while :; do sleep 0.05; done)"
    command = service.run(script, leftover_seconds=0)
    assert command["status"] == "succeeded"
    assert command["leftovers_killed"] >= 1
    assert seconds_between(command, "exited_at", "finished_at") >= 1
    assert not processes_with(command["id"])


def test_a_child_with_a_session_of_its_own_does_not_outlive_its_command(service: Service) -> None:
    command = service.run(
        "read -r < <(exec setsid bash -c 'echo there; exec sleep 3600')", leftover_seconds=0
    )
    assert command["leftovers_killed"] == 1
    assert not processes_with(command["id"])


def test_arguments_and_environment_may_have_a_mebibyte_together(service: Service) -> None:
    args = ["x" * ((128 << 10) - 1)] * 8
    command = service.run("echo $# ${#8} $K", args=args, env={"K": "1234567"})
    assert service.bytes_of(command["id"]) == b"8 131071 1234567\n"
    body = {"script": "true", "args": args, "env": {"K": "12345678"}}
    assert_invalid(service.client.post("/v1/commands", json=body), "args")
