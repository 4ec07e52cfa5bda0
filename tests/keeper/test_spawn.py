"""The environment of a starting script: complete, and with nothing of the service in it."""

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.gates import Gate
from support.scripts import keeper_of, unique_seconds
from support.service import Service

SOFT_LIMIT = 200


class IgnorantService(Service):
    """A service whose own parent ignores and blocks signals, and has a soft limit of its own."""

    def start(self, *, wait: bool = True) -> Service:
        ignored = [signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]
        before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGALRM])
        resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_LIMIT, limits[1]))
        try:
            super().start(wait=False)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            for number, handler in before.items():
                signal.signal(number, handler)
        if wait:
            self.wait_until_healthy()
        return self


METHODS = {"launcher": (), "fork": ("--no-use-launcher",)}


@pytest.fixture(scope="module", params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def service(method: str) -> Iterator[Service]:
    ignorant = IgnorantService(None, *METHODS[method])
    try:
        started = ignorant.start()
        assert started.ready()["spawn"] == method
        yield started
    finally:
        ignorant.close()


def printed(service: Service, script: str, **fields: Any) -> str:
    command = service.run(script, **fields)
    assert command["status"] == "succeeded", command
    return service.bytes_of(command["id"]).decode()


def status_of(service: Service, **fields: Any) -> dict[str, str]:
    """Return /proc/self/status of a program that a script execs."""
    text = printed(service, "exec cat /proc/self/status", **fields)
    return {
        name: value.strip() for name, _, value in (line.partition(":") for line in text.split("\n"))
    }


def test_signals_are_reset_and_unblocked(service: Service) -> None:
    status = status_of(service)
    for name in ("SigIgn", "SigBlk", "SigCgt", "SigPnd"):
        assert int(status[name], 16) == 0, name


def test_a_script_cannot_gain_privileges(service: Service) -> None:
    status = status_of(service)
    assert status["NoNewPrivs"] == "1"
    for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(status[name], 16) == 0, name


@pytest.mark.needs_root
def test_a_script_runs_as_its_user(service: Service) -> None:
    status = status_of(service)
    assert status["Uid"].split() == ["59999"] * 4
    assert status["Gid"].split() == ["59999"] * 4
    assert status["Groups"] == ""
    assert status["Umask"] == "0077"


def test_a_script_leads_its_own_session(service: Service) -> None:
    script = "echo $$; cut -d' ' -f5,6,7 /proc/$$/stat; tty"
    command = service.run(script)
    pid, ids, *_ = service.bytes_of(command["id"]).decode().split("\n")
    assert ids.split() == [pid, pid, "0"]


def test_nothing_but_its_own_descriptors_is_inherited(service: Service) -> None:
    script = """import os, json
found = {}
for name in os.listdir("/proc/self/fd"):
    try:
        found[name] = os.readlink("/proc/self/fd/" + name)
    except OSError:
        pass  # the listing's own
print(json.dumps(found))"""
    gate = Gate(service)
    many = [service.submit(gate.block)["id"] for _ in range(5)]
    for command in many:
        service.wait_for(command, "running")
    found = json.loads(printed(service, script, interpreter=["/usr/bin/python3"]))
    # Python opens its script again; 63 is the descriptor that the interpreter inherited.
    ours = {name: target for name, target in found.items() if "script" not in target}
    assert set(ours) == {"0", "1", "2"}
    assert ours["0"] == "/dev/null"
    assert "63" in found
    assert ours["1"].startswith("pipe:")
    gate.open()
    for command in many:
        service.wait(command)


def test_stdin_is_empty(service: Service) -> None:
    assert printed(service, "readlink /proc/self/fd/0; cat | wc -c") == "/dev/null\n0\n"


def test_limits_are_those_the_service_was_started_with(service: Service) -> None:
    assert printed(service, "ulimit -Sn") == f"{SOFT_LIMIT}\n"


def test_limits_stay_when_the_keeper_raises_its_own(service: Service) -> None:
    gate = Gate(service)
    script = f"ulimit -Sn; {gate.block}"
    commands = [service.submit(script)["id"] for _ in range(SOFT_LIMIT // 2)]
    for command in commands:
        service.wait_for(command, "running")
    gate.open()
    for command in commands:
        final = service.wait(command)
        assert final["status"] == "succeeded"
        assert service.bytes_of(command) == f"{SOFT_LIMIT}\n".encode()
    soft, hard = resource.prlimit(keeper_of(service).pid, resource.RLIMIT_NOFILE)
    assert soft == hard


def test_the_environment_is_clean(service: Service) -> None:
    command = service.run("env -0", env={"MINE": "1"})
    found = dict(
        entry.split("=", 1)
        for entry in service.bytes_of(command["id"]).decode().split("\0")
        if entry
    )
    for name in ("PWD", "SHLVL", "_", "OLDPWD"):
        found.pop(name, None)  # bash's own
    assert set(found) == {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "SCRIPTSERVICE_COMMAND_ID", "MINE",
    }  # fmt: skip
    assert found["SCRIPTSERVICE_COMMAND_ID"] == command["id"]


def test_the_script_is_not_on_a_command_line(service: Service) -> None:
    secret = f"secret-{unique_seconds()}"
    command = service.submit(f"echo ready; sleep 3600; : {secret}")["id"]
    service.wait_for_output(command, b"ready")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        assert secret.encode() not in words, path
    service.client.post(f"/v1/commands/{command}/stop", json={"grace_seconds": 0})


@pytest.mark.needs_root
@pytest.mark.parametrize("name", ["scriptservice.db", "token", "journal", "lock", "private"])
def test_scripts_cannot_read_the_data_directory(service: Service, name: str) -> None:
    path = service.data_dir / name
    assert path.exists()
    reader = f"ls {path}" if path.is_dir() else f"cat {path}"
    final = service.run(f"{reader}; exec cat {path}/*" if path.is_dir() else reader)
    assert final["status"] == "failed"
    assert b"Permission denied" in service.bytes_of(final["id"], stream="stderr")
    assert service.bytes_of(final["id"], stream="stdout") == b""


@pytest.mark.needs_root
@pytest.mark.parametrize("who", ["keeper", "server"])
def test_scripts_cannot_read_or_signal_the_service(service: Service, who: str) -> None:
    pid = keeper_of(service).pid if who == "keeper" else service.server_pid
    final = service.run(
        f"""for name in environ mem maps; do cat /proc/{pid}/$name && echo read; done
        ls -A /proc/{pid}/fd && echo listed
        for signal in TERM KILL STOP HUP; do kill -$signal {pid} && echo signalled; done
        true"""
    )
    assert final["status"] == "succeeded"
    assert service.bytes_of(final["id"], stream="stdout") == b""
    assert service.client.get("/healthz").status_code == 200


def test_scripts_cannot_change_each_others_text(service: Service) -> None:
    assert printed(service, "(echo 'echo more' >> /dev/fd/63) 2>/dev/null; echo end") == "end\n"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"interpreter": ["/no/such/program"]}, "cannot run /no/such/program: No such file"),
        ({"interpreter": ["/etc"]}, "cannot run /etc: Permission denied"),
        ({"working_directory": "/no/such"}, "cannot enter working directory /no/such: No such"),
        ({"working_directory": "/root"}, "cannot enter working directory /root: Permission denied"),
        ({"working_directory": "/etc/passwd"}, "cannot enter working directory /etc/passwd: Not a"),
        ({"args": ["xxx"] * 200_000}, "cannot run /bin/bash: Argument list too long"),
    ],
)
def test_a_script_that_can_never_start_fails_with_the_reason(
    service: Service, fields: dict[str, Any], reason: str
) -> None:
    final = service.run("true", **fields)
    assert final["status"] == "failed"
    assert reason in final["reason"]
    assert final["exit_code"] is None
    assert final["started_at"] is None


def test_a_service_that_changes_no_user_runs_scripts_as_itself(
    make_service: Callable[..., Service], method: str
) -> None:
    """Like a service that is not root: without a fork, and all else is the same."""
    service = make_service("--run-as", "root", "--no-use-cgroups", *METHODS[method]).start()
    status = status_of(service)
    assert status["Uid"].split() == ["0"] * 4
    assert status["Umask"] == "0077"
    assert status["NoNewPrivs"] == "1"
    for name in ("SigIgn", "SigBlk"):
        assert int(status[name], 16) == 0, name
    # The two streams are merged in the order in which the keeper reads them.
    lines = printed(service, "echo x > /dev/stderr; pwd").splitlines()
    assert sorted(lines) == sorted(["x", f"{service.data_dir}/work"])
    assert printed(service, "ulimit -Sn") == f"{resource.getrlimit(resource.RLIMIT_NOFILE)[0]}\n"
    assert service.run('rm -rf "$PWD"')["status"] == "succeeded"
    assert printed(service, "pwd; echo x > file; cat file").endswith("/work\nx\n")


def test_the_keeper_knows_only_the_standard_library() -> None:
    program = """import sys
before = set(sys.modules)
import scriptservice.keeper.keeper, scriptservice.keeper.config
for name in sorted(set(sys.modules) - before):
    top = name.split(".")[0]
    ours = name.startswith(("scriptservice.keeper", "scriptservice.protocol"))
    if top not in sys.stdlib_module_names and not ours:
        print(name)"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["scriptservice", "scriptservice.version"]


@pytest.mark.needs_root  # the keeper shows its memory to nobody else
def test_the_running_keeper_has_no_other_library_loaded(service: Service) -> None:
    assert "site-packages" not in Path(f"/proc/{keeper_of(service).pid}/maps").read_text()
