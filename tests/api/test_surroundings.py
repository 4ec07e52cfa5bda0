"""The environment of a script: arguments, variables, standard input, working directory."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from support.service import MAINLY_ON_SQLITE, Service, eventually, new_directory, processes_with

MEBIBYTE = 1 << 20
CLEAN = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "SCRIPTSERVICE_COMMAND_ID"}


def output(service: Service, script: str, **fields: object) -> bytes:
    command = service.run(script, **fields)
    assert command["status"] == "succeeded", command
    return service.bytes_of(command["id"])


def environment(service: Service, **fields: object) -> dict[str, str]:
    """Return the environment that a script's process was started with."""
    raw = output(service, "tr '\\0' '\\n' </proc/$$/environ", **fields)
    return dict(line.split("=", 1) for line in raw.decode().splitlines())


@pytest.fixture
def directory() -> Iterator[Path]:
    path = new_directory()
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


# Arguments


def test_arguments_arrive_as_they_are(service: Service) -> None:
    args = ["a b", "", "*", "$(date)", "-x", "'\"", "ä\n", "--"]
    got = output(service, 'printf "%s\\0" "$@"', args=args)
    assert got.decode().split("\0")[:-1] == args


def test_an_argument_may_be_as_long_as_linux_takes(service: Service) -> None:
    got = output(service, 'echo "${#1}"', args=["x" * ((128 << 10) - 1)])
    assert got == b"131071\n"


def test_too_many_arguments_for_linux_are_a_failure_with_a_reason(service: Service) -> None:
    # Less than a mebibyte of text, which the service accepts; but Linux counts the pointers too.
    command = service.run("true", args=["xxx"] * 200_000)
    assert command["status"] == "failed"
    assert command["started_at"] is None
    assert "Argument list too long" in command["reason"]


# Environment


def test_the_environment_is_clean(service: Service) -> None:
    command = service.submit("tr '\\0' '\\n' </proc/$$/environ")
    service.wait(command["id"])
    lines = service.bytes_of(command["id"]).decode().splitlines()
    found = dict(line.split("=", 1) for line in lines)
    assert set(found) == CLEAN
    assert found["SCRIPTSERVICE_COMMAND_ID"] == command["id"]
    assert found["SHELL"] == "/bin/bash"
    assert found["USER"] == found["LOGNAME"]
    assert "/usr/bin" in found["PATH"].split(":")
    assert os.path.isdir(found["HOME"])


@MAINLY_ON_SQLITE
def test_the_servers_environment_does_not_reach_scripts(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(
        environment={"SECRET_OF_THE_SERVER": "x", "SCRIPTSERVICE_LOG_LEVEL": "info"}
    )
    service.start()
    assert set(environment(service)) == CLEAN


def test_the_env_field_adds_and_overrides(service: Service) -> None:
    found = environment(
        service, env={"A": "1 2", "EMPTY": "", "PATH": "/bin:/usr/bin", "LANG": "C"}
    )
    assert set(found) == CLEAN | {"A", "EMPTY"}
    assert (found["A"], found["EMPTY"]) == ("1 2", "")
    assert (found["PATH"], found["LANG"]) == ("/bin:/usr/bin", "C")


# Standard input


def test_standard_input_is_empty_unless_given(service: Service) -> None:
    assert output(service, "readlink /proc/$$/fd/0; cat | wc -c") == b"/dev/null\n0\n"


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, MEBIBYTE])
def test_standard_input_is_given_whole(service: Service, size: int) -> None:
    text = ("0123456789abcde\n" * (size // 16 + 1))[:size]
    assert output(service, "cat", stdin=text) == text.encode()


def test_standard_input_need_not_be_read(service: Service) -> None:
    assert service.run("exit 0", stdin="x" * MEBIBYTE)["status"] == "succeeded"


# Working directory


def test_the_default_working_directory_is_shared(service: Service) -> None:
    where = output(service, "pwd; echo kept >left-behind").decode().strip()
    assert where == str(service.data_dir / "work")
    assert output(service, "cat left-behind") == b"kept\n"


def test_the_working_directory_can_be_named(service: Service, directory: Path) -> None:
    got = output(service, "pwd -P; echo x >here", working_directory=str(directory))
    assert got.decode().strip() == str(directory)
    assert (directory / "here").read_text() == "x\n"


def test_a_private_working_directory_is_empty_and_removed(service: Service) -> None:
    script = "pwd; ls -A | wc -l; mkdir -p a/b; echo x >a/b/c; chmod 500 a/b"
    where, count = output(service, script, working_directory="private").decode().split()
    assert count == "0"
    eventually(lambda: not os.path.exists(where), "the private directory to be removed")
    assert where.startswith(str(service.data_dir))


def test_private_working_directories_are_not_shared(service: Service) -> None:
    places = {output(service, "pwd", working_directory="private") for _ in range(3)}
    assert len(places) == 3


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/no/such/directory", "No such file or directory"),
        ("/etc/passwd", "Not a directory"),
        ("relative/missing", "No such file or directory"),
        ("/" + "x" * 300, "File name too long"),
    ],
)
def test_a_working_directory_that_cannot_be_entered_is_a_failure(
    service: Service, path: str, why: str
) -> None:
    command = service.run("true", working_directory=path)
    assert command["status"] == "failed"
    assert command["reason"] == f"cannot enter working directory {path}: {why}"
    assert (command["started_at"], command["exit_code"]) == (None, None)


def test_a_missing_interpreter_leaves_no_private_directory(service: Service) -> None:
    private = service.data_dir / "private"
    eventually(lambda: not os.listdir(private), "those of others to be removed")
    command = service.run("true", interpreter=["/no/such"], working_directory="private")
    assert command["reason"] == "cannot run /no/such: No such file or directory"
    assert os.listdir(private) == []


# What others see


def test_the_script_is_not_on_any_command_line(service: Service) -> None:
    secret = "word-" + os.urandom(8).hex()
    command = service.submit(f"echo here; sleep 3600 # {secret}\n", stdin=secret)
    service.wait_for_output(command["id"], b"here")
    lines = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert any(line and "/dev/fd/63" in line for line in lines)
    assert not [line for line in lines if secret in " ".join(line or ())]
    assert processes_with(command["id"])
    service.client.post(f"/v1/commands/{command['id']}/stop", json={"grace_seconds": 0})
    service.wait(command["id"])
    assert not processes_with(command["id"])


def test_scripts_run_as_another_user_than_root(service: Service) -> None:
    uid = int(output(service, "id -u"))
    assert uid == (59999 if os.geteuid() == 0 else os.geteuid())


def test_no_signal_is_blocked_or_ignored(service: Service) -> None:
    lines = output(service, "#!/bin/cat /proc/self/status\n").decode().splitlines()
    found = dict(line.split(":\t") for line in lines if line.startswith("Sig"))
    assert (int(found["SigBlk"], 16), int(found["SigIgn"], 16)) == (0, 0)


def test_only_the_scripts_own_descriptors_are_open(service: Service) -> None:
    found = set(output(service, "ls /proc/$$/fd").decode().split())
    assert found - {"255"} == {"0", "1", "2", "63"}  # bash keeps its script at 255


def test_files_of_a_script_are_private_to_its_user(service: Service) -> None:
    assert output(service, "umask") == b"0077\n"
