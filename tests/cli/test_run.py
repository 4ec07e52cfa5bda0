"""``scriptservice run`` as a program: streams, exit codes, and one line for what cannot be."""

import json
import signal
import subprocess
import sys
from typing import Any

import pytest

from support.cli import cli, environment
from support.service import PATIENCE_SECONDS, Service, eventually


def test_streams_are_apart_and_byte_exact(service: Service) -> None:
    ended = cli(service, "run", r"printf 'a\377\0\033[31m'; printf 'e\342\202' >&2; exit 7")
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, b"a\xff\0\x1b[31m", b"e\xe2\x82")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["true"], 0),
        (["exit 255"], 255),
        (["kill -KILL $$"], 137),
        (["kill -TERM $$"], 143),
        (["kill -s RTMIN+3 $$"], 128 + signal.SIGRTMIN + 3),
        (["--timeout", "0.2", "exec sleep 3600"], 124),
        (["#!/no/such/program\n"], 125),
        (["--label", "nonsense", "true"], 2),
        (["--no-such-option", "true"], 2),
        (["-f", "/no/such/file"], 2),
    ],
)
def test_exit_codes(service: Service, words: list[str], code: int) -> None:
    ended = cli(service, "run", *words)
    assert ended.returncode == code, ended.stderr
    assert b"Traceback" not in ended.stderr


def test_arguments_environment_and_files(service: Service) -> None:
    assert cli(service, "run", "--env", "A=b", "echo $1:$2:$A", "--", "x", "y z").stdout == (
        b"x:y z:b\n"
    )
    given = cli(service, "run", "-f", "-", "--", "x", stdin=None, input=b"echo from stdin $1")
    assert given.stdout == b"from stdin x\n"
    hinted = cli(service, "run", __file__)
    assert b"run -f" in hinted.stderr


def test_detach_prints_only_the_id_and_json_parses(service: Service) -> None:
    ended = cli(service, "run", "--detach", "echo x")
    command = ended.stdout.decode().strip()
    assert service.wait(command)["status"] == "succeeded"
    assert ended.stderr == b""
    lines = cli(service, "run", "--json", "echo x").stdout.splitlines()
    parsed = [json.loads(line) for line in lines]
    assert (parsed[0]["text"], parsed[-1]["status"]) == ("x\n", "succeeded")


def test_ctrl_c_stops_it(service: Service) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "scriptservice.cli", "run", "echo up; exec sleep 3600"],
        env=environment(service),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 130
    (last,) = service.client.get("/v1/commands?limit=1").json()["items"]
    assert last["status"] == "stopped"


def test_stopped_while_queued(make_service: Any) -> None:
    service = make_service("--max-running", "1").start()
    service.wait_for(service.submit("exec sleep 3600")["id"], "running")
    process = subprocess.Popen(
        [sys.executable, "-m", "scriptservice.cli", "run", "--name", "waits", "true"],
        env=environment(service),
        stderr=subprocess.PIPE,
    )
    with process:
        (found,) = eventually(
            lambda: service.client.get("/v1/commands?status=queued").json()["items"], "it"
        )
        assert cli(service, "stop", found["id"][-8:]).returncode == 0
        assert process.wait(PATIENCE_SECONDS) == 125


@pytest.mark.parametrize("verb", ["list", "show", "run"])
def test_a_wrong_token_or_url_is_one_line(service: Service, verb: str) -> None:
    words = [verb] if verb == "list" else [verb, "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55"]
    for more in ({"SCRIPTSERVICE_TOKEN": "wrong"}, {"SCRIPTSERVICE_URL": "nonsense"}):
        ended = cli(service, *words, env=environment(service, **more))
        assert ended.returncode == (125 if verb == "run" else 1)
        assert len(ended.stderr.splitlines()) == 1, ended.stderr
