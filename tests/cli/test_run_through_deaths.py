"""``run`` while others die: server, keeper, the whole service; nothing twice, nothing lost."""

import os
import resource
import signal
import subprocess
import sys

from support.cli import cli, environment
from support.gates import Gate
from support.service import PATIENCE_SECONDS, Service, eventually


def start_run(service: Service, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "scriptservice.cli", "run", *words],
        env=environment(service),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def running(service: Service) -> str:
    """Return the id of the one command that runs."""

    def there() -> str:
        items = service.client.get("/v1/commands", params={"status": "running"}).json()["items"]
        return items[0]["id"] if items else ""

    return str(eventually(there, "a command to run"))


def submitted(service: Service, label: str) -> int:
    """Return how many commands have a label."""
    return len(service.client.get("/v1/commands", params={"label": label}).json()["items"])


def test_it_goes_on_through_kills_of_the_server(own_service: Service) -> None:
    service = own_service
    gates = [Gate(service) for _ in range(2)]
    steps = [
        f"for i in {{{100 * n + 1}..{100 * n + 100}}}; do echo out $i; echo err $i >&2; done"
        for n in range(3)
    ]
    ends = [*(gate.block for gate in gates), "exit 9"]
    script = "\n".join(f"{step}; {end}" for step, end in zip(steps, ends, strict=True))
    process = start_run(service, "--label", "about=kills", script)
    command = running(service)
    for number, gate in enumerate(gates, 1):
        service.wait_for_output(command, b"out %d00\n" % number)
        service.close_client()
        service.kill_server()
        gate.open()
        service.wait_until_serving()
    stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 9
    assert stdout == b"".join(b"out %d\n" % number for number in range(1, 301))
    assert stderr == b"".join(b"err %d\n" % number for number in range(1, 301))
    assert submitted(service, "about=kills") == 1


def test_a_server_that_dies_before_it_answers_is_asked_again(own_service: Service) -> None:
    service = own_service
    server = service.server_pid
    os.kill(server, signal.SIGSTOP)  # takes the connection, and answers nothing
    script = "echo once >>$HOME/once; cat $HOME/once"
    process = start_run(service, "--label", "about=answer", script)
    try:
        eventually(lambda: len(process_connections(process.pid)) > 0, "the request to be under way")
    finally:
        os.kill(server, signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, stdout, stderr) == (0, b"once\n", b"")
    assert submitted(service, "about=answer") == 1


def process_connections(pid: int) -> list[object]:
    import psutil

    return [
        each
        for each in psutil.Process(pid).net_connections("tcp")
        if each.status == psutil.CONN_ESTABLISHED
    ]


def test_lost_is_125_and_says_why(own_service: Service) -> None:
    service = own_service
    process = start_run(service, "echo began; exec sleep 3600")
    assert process.stdout is not None
    assert process.stdout.readline() == b"began\n"
    service.kill_keeper()
    service.close_client()
    service.start()
    _, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 125
    assert b"lost: its keeper died" in stderr


def test_a_service_that_stays_away_is_125_and_says_how_to_go_on(own_service: Service) -> None:
    service = own_service
    process = start_run(service, "--retry-seconds", "1", "echo began; exec sleep 3600")
    command = running(service)
    assert process.stdout is not None
    assert process.stdout.readline() == b"began\n"
    service.kill_keeper()
    _, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 125
    assert f"scriptservice logs -f {command}".encode() in stderr
    assert b"Traceback" not in stderr
    # So that nothing is left of the script.
    service.close_client()
    service.start()
    assert service.wait(command)["status"] == "lost"


def test_version_takes_at_most_three_times_python_itself(service: Service) -> None:
    def seconds(*words: str) -> float:
        """Return the processor time, whoever else has the processor meanwhile."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    pairs = [
        (seconds("-m", "scriptservice.cli", "version"), seconds("-c", "pass")) for _ in range(15)
    ]
    version, python = (min(column) for column in zip(*pairs, strict=True))
    assert version <= 3 * python


def test_json_of_every_verb_parses(service: Service) -> None:
    import json

    command = cli(service, "run", "--detach", "sleep 3600").stdout.decode().strip()
    assert json.loads(cli(service, "stop", "--json", "--grace", "0", command).stdout)["id"] == (
        command
    )
    service.wait(command)
    again = json.loads(cli(service, "rerun", "--json", command).stdout)
    assert again["rerun_of"] == command
    cli(service, "stop", "--grace", "0", again["id"])
    service.wait(again["id"])
    deleted = json.loads(cli(service, "delete", "--json", command).stdout)
    assert deleted == {"id": command, "deleted": True}
