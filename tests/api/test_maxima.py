"""A service with maxima: submits, reruns and stops above them are refused."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.problems import assert_invalid
from support.service import Service

FLAGS = (
    "--max-timeout-seconds", "3600", "--max-grace-seconds", "5",
    "--max-output-limit-bytes", "1000", "--max-script-bytes", "100", "--max-interactive", "2",
)  # fmt: skip


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service without maxima at first, which has a command above each, and then with maxima."""
    own = Service()
    try:
        own.start()
        own.run("true", name="before", timeout_seconds=7200)
        own.stop()
        own.flags = FLAGS
        yield own.start()
    finally:
        own.close()


@pytest.mark.parametrize(
    ("field", "value", "maximum"),
    [
        ("timeout_seconds", 3601, "3600"),
        ("grace_seconds", 5.5, "5"),
        ("output_limit_bytes", 1001, "1000"),
        ("output_limit_bytes", None, "1000"),
        ("script", "#" * 101, "100"),
    ],
)
def test_a_submit_above_a_maximum_is_refused_and_the_maximum_named(
    service: Service, field: str, value: Any, maximum: str
) -> None:
    body = {"script": "true", field: value}
    problem = assert_invalid(service.client.post("/v1/commands", json=body), field)
    assert maximum in problem["errors"][0]["message"]
    assert "maximum" in problem["detail"]


def raw(service: Service) -> dict[str, Any]:
    response = service.client.post(
        "/v1/commands", content="true", headers={"Content-Type": "text/plain"}
    )
    assert response.status_code == 201, response.text
    return dict(response.json())


@pytest.mark.parametrize("submit", [lambda service: service.submit("true"), raw])
def test_defaults_are_lowered_to_the_maxima(
    service: Service, submit: Callable[[Service], dict[str, Any]]
) -> None:
    command = submit(service)
    names = ("timeout_seconds", "grace_seconds", "output_limit_bytes")
    assert [command[name] for name in names] == [3600, 5, 1000]
    again = service.client.post(f"/v1/commands/{command['id']}/rerun")
    assert again.status_code == 201


def test_a_rerun_above_a_maximum_is_refused(service: Service) -> None:
    (before,) = service.client.get("/v1/commands?q=before").json()["items"]
    problem = assert_invalid(
        service.client.post(f"/v1/commands/{before['id']}/rerun"), "timeout_seconds"
    )
    fields = [error["field"] for error in problem["errors"]]
    assert fields == ["timeout_seconds", "grace_seconds", "output_limit_bytes"]


def test_a_stop_above_the_maximum_changes_nothing(service: Service) -> None:
    command = service.submit("exec sleep 3600")["id"]
    path = f"/v1/commands/{command}/stop"
    assert_invalid(service.client.post(path, json={"grace_seconds": 6}), "grace_seconds")
    assert service.wait_for(command, "running")["status"] == "running"
    assert service.client.post(path, json={"grace_seconds": 5}).status_code == 202
    assert service.wait(command)["status"] == "stopped"


def test_a_request_that_is_sent_again_gets_its_command_although_a_maximum_is_lower_now(
    service: Service,
) -> None:
    headers = {"Idempotency-Key": "before the maximum"}
    body = {"script": "true", "timeout_seconds": 3000}
    first = service.client.post("/v1/commands", json=body, headers=headers)
    assert first.status_code == 201
    service.stop()
    service.flags = (*FLAGS, "--max-timeout-seconds", "60")
    service.start()
    again = service.client.post("/v1/commands", json=body, headers=headers)
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert_invalid(service.client.post("/v1/commands", json=body), "timeout_seconds")


def test_interactive_commands_are_counted_until_they_are_finished(service: Service) -> None:
    key = {"Idempotency-Key": "the first of two"}
    body = {"script": "cat", "interactive": True}
    first = service.client.post("/v1/commands", json=body, headers=key)
    terminal = service.submit("cat", pty={"rows": 24, "cols": 80})["id"]
    problem = assert_invalid(service.client.post("/v1/commands", json=body), "interactive")
    assert "maximum is 2 (--max-interactive)" in problem["errors"][0]["message"]
    assert_invalid(service.client.post(f"/v1/commands/{terminal}/rerun"), "interactive")
    assert service.run("true")["status"] == "succeeded"
    again = service.client.post("/v1/commands", json=body, headers=key)
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    service.client.post(f"/v1/commands/{terminal}/stop", json={"grace_seconds": 0})
    service.wait(terminal)
    assert service.client.post("/v1/commands", json=body).status_code == 201
    service.stop_all_commands()
