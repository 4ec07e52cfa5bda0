"""The other client verbs as programs: lists, logs, stops, and who is meant by part of an id."""

import json
import os
import subprocess
import sys

import pytest

from support.gates import Gate
from support.service import PATIENCE_SECONDS, Service


def cli(service: Service, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scriptservice.cli", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env=environment(service),
    )


def environment(service: Service) -> dict[str, str]:
    known = {"SCRIPTSERVICE_URL": service.url, "SCRIPTSERVICE_TOKEN": service.token}
    return {**os.environ, **known}


def test_list_and_show(service: Service) -> None:
    command = service.run("exit 3", name="a\tname", labels={"team": "db"})
    shown = cli(service, "list", "--label", "team=db").stdout.splitlines()
    assert shown[0].split("\t")[:3] == [command["id"][-8:], "failed", "a name"]
    listed = json.loads(cli(service, "list", "--json").stdout)
    assert command["id"] in [each["id"] for each in listed]
    assert json.loads(cli(service, "show", "--json", command["id"][-8:]).stdout) == command
    assert "exit 3" in cli(service, "show", command["id"]).stdout


def test_logs(service: Service) -> None:
    gate = Gate(service)
    command = service.submit(f"echo one; echo two; {gate.wait}; echo three >&2")["id"]
    service.wait_for_output(command, b"two\n")
    gate.open()
    service.wait(command)
    assert cli(service, "logs", command).stdout == "one\ntwo\nthree\n"
    assert cli(service, "logs", "--stream", "stdout", "--tail", "1", command).stdout == "two\n"
    assert cli(service, "logs", "-f", "--tail-bytes", "3", command).stdout == "ee\n"
    assert json.loads(cli(service, "logs", "--json", command).stdout.splitlines()[0])


def test_logs_into_head_end_quietly(service: Service) -> None:
    command = service.run("seq 1 300000")["id"]
    piped = f"{sys.executable} -m scriptservice.cli logs {command} | head -1"
    ended = subprocess.run(
        ["/bin/bash", "-c", piped],
        check=False,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        env=environment(service),
    )
    assert (ended.stdout, ended.stderr) == (b"1\n", b"")


def test_stop_rerun_and_delete(service: Service) -> None:
    label = {"to": "stop"}
    made = [service.submit("exec sleep 3600", labels=label)["id"] for _ in range(2)]
    ended = cli(service, "stop", "--label", "to=stop", "--all", "--grace", "0")
    assert ended.returncode == 0
    assert {service.wait(command)["status"] for command in made} == {"stopped"}
    assert cli(service, "stop", made[0]).returncode == 1
    again = cli(service, "rerun", made[0]).stdout.strip()
    assert service.get(again)["rerun_of"] == made[0]
    refused = cli(service, "delete", again)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert cli(service, "stop", again, "--grace", "0").returncode == 0
    service.wait(again)
    assert cli(service, "delete", again).returncode == 0
    assert service.client.get(f"/v1/commands/{again}").status_code == 404


@pytest.mark.parametrize("text", ["zzzz", "0" * 12 + "1", "0"])
def test_an_id_that_names_none_or_several(service: Service, text: str) -> None:
    service.run("true")
    service.run("true")
    ended = cli(service, "show", text)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    expected = f"'{text}' is not a valid id or part of one" if text == "zzzz" else "cannot "
    assert ended.stderr.startswith(f"scriptservice: {expected}")


def lists(service: Service) -> int:
    """Return how many lists the service has answered."""
    wanted = ("_http_requests_total{", 'route="/v1/commands"', 'method="GET"')
    lines = service.client.get("/metrics").text.splitlines()
    found = [line for line in lines if all(word in line for word in wanted)]
    return sum(int(float(line.rpartition(" ")[2])) for line in found)


def test_a_short_id_is_found_in_one_request(service: Service) -> None:
    command = service.run("echo found", labels={"to": "find"})["id"]
    service.run("true")
    service.client.get("/v1/commands")
    for part in (command[-8:], command[-8:].upper(), command[-17:], command[:35]):
        before = lists(service)
        assert cli(service, "logs", part).stdout == "found\n"
        assert lists(service) == before + 1


def test_usage_is_2(service: Service) -> None:
    both_tails = ["logs", "--tail", "1", "--tail-bytes", "1", "x"]
    for words in (
        ["stop"],
        ["stop", "x", "--label", "a=b"],
        ["delete"],
        both_tails,
        ["nothing"],
        ["list", "--colour"],
    ):
        assert cli(service, *words).returncode == 2, words
