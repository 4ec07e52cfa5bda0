"""Finding commands by time, showing them, waiting for them, their output by time, deleting many."""

import json
import re
import subprocess
import sys
from datetime import datetime

import pytest

from support.cli import cli, environment
from support.gates import Gate
from support.service import PATIENCE_SECONDS, Service, eventually


def lines(service: Service, *words: str) -> list[str]:
    ended = cli(service, *words)
    assert (ended.returncode, ended.stderr) == (0, b"")
    return ended.stdout.decode().splitlines()


def test_a_list_is_limited_by_time(service: Service) -> None:
    label = {"listed": "by-time"}
    older, newer = (service.run("true", labels=label) for _ in range(2))
    between = datetime.fromisoformat(newer["created_at"]).isoformat()
    words = ["list", "--label", "listed=by-time"]

    def ids(*more: str) -> list[str]:
        return [line.split("\t")[0] for line in lines(service, *words, *more)]

    assert ids("--since", "2h") == [newer["id"][-8:], older["id"][-8:]]
    assert ids("--until", between) == [older["id"][-8:]]
    assert ids("--since", "2h", "--until", "1h") == []
    ended = cli(service, *words, "--since", "yesterday")
    assert ended.returncode == 2
    assert "write 2h for two hours ago" in " ".join(ended.stderr.decode().split())


def test_show_is_for_people(service: Service) -> None:
    command = service.run(
        "printf %05000d 1; printf %09d 1 >&2; exit 3",
        name="shown",
        labels={"team": "db", "zone": "a"},
        args=["x", "y z"],
        timeout_seconds=5400,
        grace_seconds=0.5,
        output_limit_bytes=10 << 20,
    )
    shown = [re.split(r"  +", line) for line in lines(service, "show", command["id"])]
    rows = {row[0]: row[1] for row in shown if len(row) > 1 and row[0]}
    started = datetime.fromisoformat(command["started_at"]).astimezone()
    expected = {
        "name": "shown",
        "labels": "team=db",
        "args": "x 'y z'",
        "timeout": "1h30m",
        "grace": "0.5s",
        "output limit": "10 MiB",
        "started": started.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "exit code": "3",
        "output": "4.9 KiB (stdout 4.9 KiB, stderr 9 B)",
    }
    assert {name: rows.get(name) for name in expected} == expected
    assert re.fullmatch(r"user \S+s, system \S+s, max rss \S+ [KM]iB", rows["usage"])
    assert ["", "zone=a"] in shown
    assert json.loads("".join(lines(service, "show", "--json", command["id"]))) == command


def test_wait(service: Service) -> None:
    gate = Gate(service)
    waiting = service.submit(f"{gate.wait}; exit 3")["id"]
    done = service.run("true")["id"]
    process = subprocess.Popen(
        [sys.executable, "-m", "scriptservice.cli", "wait", done[-8:], waiting],
        env=environment(service),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{done[-8:]} succeeded\n"
        assert service.get(waiting)["status"] == "running"
        gate.open()
        assert process.stdout.read() == f"{waiting[-8:]} failed\n"
        assert process.wait(PATIENCE_SECONDS) == 0
    assert json.loads("".join(lines(service, "wait", "--json", done)))["id"] == done


STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "


def test_logs_with_timestamps(service: Service) -> None:
    gate, second = Gate(service), Gate(service)
    script = f"echo one; printf two; {gate.wait}; echo 2; {second.wait}; printf 'err\\nmore' >&2"
    command = service.submit(script)["id"]
    service.wait_for_output(command, b"two")
    stamped = lines(service, "logs", "--timestamps", command)  # ends although the command runs
    assert re.fullmatch(f"{STAMP}one\n{STAMP}two", "\n".join(stamped))
    gate.open()
    service.wait_for_output(command, b"two2\n")
    second.open()
    service.wait(command)
    text = "\n".join(lines(service, "logs", "--timestamps", "-f", command))
    assert re.fullmatch(f"{STAMP}one\n{STAMP}two2\n{STAMP}err\n{STAMP}more", text)
    text = "\n".join(
        lines(service, "logs", "--timestamps", "--tail", "1", "--stream", "stdout", command)
    )
    assert re.fullmatch(f"{STAMP}two2", text)
    first = json.loads(lines(service, "logs", "--timestamps", "--json", command)[0])
    assert (first["stream"], first["position"]) == ("stdout", 0)
    assert datetime.fromisoformat(first["time"])


def test_delete_by_label_and_age(service: Service) -> None:
    gate = Gate(service)
    label = {"about": "deletion"}
    done = [service.run("true", labels=label)["id"] for _ in range(2)]
    running = service.submit(gate.wait, labels=label)["id"]
    words = ["delete", "--label", "about=deletion"]
    assert lines(service, *words, "--older-than", "30d") == ["deleted 0 commands"]
    assert lines(service, *words) == ["deleted 2 commands"]
    for command in done:
        assert service.client.get(f"/v1/commands/{command}").status_code == 404
    assert service.get(running)["status"] in ("queued", "running")
    gate.open()
    service.wait(running)
    eventually(
        lambda: lines(service, *words, "--older-than", "0.01") == ["deleted 1 command"],
        "the command to be old enough",
    )


@pytest.mark.parametrize(
    "words",
    [
        ["delete", "x", "--label", "a=b"],
        ["delete", "--older-than", "old"],
        ["wait"],
        ["logs", "--timestamps", "--tail-bytes", "1", "x"],
    ],
)
def test_usage_is_2(service: Service, words: list[str]) -> None:
    assert cli(service, *words).returncode == 2
