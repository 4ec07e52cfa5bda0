"""``scriptservice run`` has every field of a submit, and says what it does not send."""

import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

from scriptservice.client.types import SubmitFields
from support.cli import cli, environment
from support.service import PATIENCE_SECONDS, Service

OPTIONS = {
    "name": (["--name", "everything"], "everything"),
    "labels": (["--label", "team=db"], {"team": "db"}),
    "interpreter": (["--interpreter", "/bin/bash -e 'a b'"], ["/bin/bash", "-e", "a b"]),
    "args": (["--", "x", "y z"], ["x", "y z"]),
    "env": (["--env", "A=b=c"], {"A": "b=c"}),
    "working_directory": (["--working-directory", "private"], "private"),
    "timeout_seconds": (["--timeout", "1h30m"], 5400),
    "queue_timeout_seconds": (["--queue-timeout", "5m"], 300),
    "grace_seconds": (["--grace", "90s"], 90),
    "leftover_seconds": (["--leftover", "0.5"], 0.5),
    "output_limit_bytes": (["--output-limit", "10M"], 10 << 20),
    "on_output_limit": (["--on-output-limit", "stop"], "stop"),
    "limits": (
        ["--cpu-limit", "1h", "--open-files-limit", "100", "--nice", "19"],
        {"cpu_seconds": 3600, "open_files": 100, "nice": 19},
    ),
    "priority": (["--priority", "-7"], -7),
    "concurrency": (
        ["--concurrency-key", "deploy", "--concurrency-limit", "3", "--when-busy", "replace"],
        {"key": "deploy", "limit": 3, "when_busy": "replace"},
    ),
}


def test_every_field_of_a_submit_has_an_option(service: Service, tmp_path: Path) -> None:
    (host,) = service.client.get("/v1/hosts").json()["items"]
    (tmp_path / "input").write_text("one\ntwo\n")
    options = {
        **OPTIONS,
        "host": (["--host", host["name"]], host["name"]),
        "stdin": (["--stdin", str(tmp_path / "input")], None),
    }
    # The option -i sets these two, according to the terminal of the command line.
    apart = {"interactive", "pty"}
    assert options.keys() == get_type_hints(SubmitFields).keys() - apart
    after = options.pop("args")
    words = [word for option, _ in options.values() for word in option]
    ended = cli(service, "run", "--detach", *words, "true", *after[0])
    assert (ended.returncode, ended.stderr) == (0, b"")
    command = service.get(ended.stdout.decode().strip())
    expected = {name: value for name, (_, value) in options.items() if name != "stdin"}
    assert {name: command[name] for name in expected} == expected
    assert (command["args"], command["stdin_bytes"]) == (after[1], 8)


def test_limits_are_shown_in_words(service: Service) -> None:
    words = ["--cpu-limit", "5m", "--nice", "0", "--open-files-limit", "64"]
    command = cli(service, "run", "--detach", *words, "true").stdout.decode().strip()
    shown = cli(service, "show", command).stdout.decode().splitlines()
    assert "limits             cpu 5m, open files 64, nice 0" in shown


def test_no_limit_is_a_word(service: Service) -> None:
    command = cli(service, "run", "--detach", "--output-limit", "none", "true").stdout.decode()
    assert service.get(command.strip())["output_limit_bytes"] is None


def test_discarded_output_is_said(service: Service) -> None:
    ended = cli(service, "run", "--output-limit", "5", "printf 123456789; exit 3")
    assert (ended.returncode, ended.stdout) == (3, b"12345")
    assert ended.stderr.decode() == (
        "scriptservice: Output limit of 5 B reached; 4 B discarded; "
        "choose another limit with --output-limit\n"
    )


NOT_SENT = b"scriptservice: standard input is not sent to the script; to send it, use --stdin -\n"


@pytest.mark.parametrize(
    ("words", "code", "stdout", "stderr"),
    [
        (["--stdin", "-", "cat"], 0, b"piped\n", b""),
        (["cat"], 0, b"", NOT_SENT),
        (["-f", "-", "--stdin", "-"], 2, b"", b"scriptservice: cannot read both the script and"),
    ],
)
def test_a_pipe_is_sent_or_said_not_to_be(
    service: Service, words: list[str], code: int, stdout: bytes, stderr: bytes
) -> None:
    ended = cli(service, "run", *words, stdin=None, input=b"piped\n")
    assert (ended.returncode, ended.stdout) == (code, stdout)
    assert ended.stderr.startswith(stderr) if stderr else ended.stderr == b""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x" * ((1 << 20) + 1), "it has more than 1 MiB"),
        (b"\xff", "it is not UTF-8 text"),
        (None, "No such file or directory"),
    ],
)
def test_a_standard_input_that_cannot_be_sent(
    service: Service, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "input"
    if content is not None:
        path.write_bytes(content)
    ended = cli(service, "run", "--stdin", str(path), "cat")
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr.decode().endswith(f"{message}\n")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--timeout", "5x", "'5x' is not a duration; write it as 90, 90s, 5m, 2h or 30d"),
        ("--output-limit", "lots", "'lots' is not a size"),
        ("--memory-limit", "none", "'none' is not a size"),
        ("--cpu-limit", "x", "'x' is not a duration"),
        ("--interpreter", "bash 'a", "has a quote that is not closed"),
        ("--concurrency-limit", "2", "need --concurrency-key"),
    ],
)
def test_a_value_that_cannot_be_used(
    service: Service, option: str, value: str, message: str
) -> None:
    ended = cli(service, "run", option, value, "true")
    assert ended.returncode == 2
    assert message in " ".join(ended.stderr.decode().split())


# A closed pipe


def piped(service: Service, *words: str) -> tuple[int, bytes]:
    """Run a script whose output is read up to the first line; return exit code and stderr."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scriptservice.cli", "run", *words],
        env=environment(service),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"y\n"
    process.stdout.close()
    assert process.stderr is not None
    stderr = process.stderr.read()
    process.stderr.close()
    return process.wait(PATIENCE_SECONDS), stderr


def newest(service: Service) -> dict[str, str]:
    (found,) = service.client.get("/v1/commands?limit=1").json()["items"]
    return dict(found)


def test_a_closed_pipe_stops_the_command(service: Service) -> None:
    assert piped(service, "trap 'exit 3' TERM; while :; do echo y; done") == (141, b"")
    found = newest(service)
    assert (found["status"], found["exit_code"]) == ("stopped", 3)


def test_a_closed_pipe_of_both_streams_stops_it_quietly(service: Service) -> None:
    line = f"{sys.executable} -m scriptservice.cli run 'yes | tee /dev/stderr' 2>&1 | head -1"
    ended = subprocess.run(
        ["/bin/bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        check=False,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        env=environment(service),
        stdin=subprocess.DEVNULL,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (141, b"y\n", b"")
    assert newest(service)["status"] == "stopped"


def test_a_command_may_be_kept_running(service: Service) -> None:
    code, stderr = piped(service, "--keep-running", "while :; do echo y; sleep 0.02; done")
    found = newest(service)
    assert code == 141
    assert stderr.decode() == (
        "scriptservice: Output pipe closed; the command is still running\n"
        f"to follow it again: scriptservice logs -f {found['id']}\n"
    )
    assert found["status"] == "running"
    service.client.post(f"/v1/commands/{found['id']}/stop", json={"grace_seconds": 0})


def test_an_empty_script_is_refused_in_the_words_of_the_service(service: Service) -> None:
    ended = cli(service, "run", "")
    assert (ended.returncode, ended.stdout) == (125, b"")
    assert ended.stderr == b"scriptservice: The script is empty\n"
