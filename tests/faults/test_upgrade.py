"""An upgrade in place loses no byte, exit, deadline, stop, request or descriptor."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil
import pytest

from support.cli import cli, environment
from support.gates import Gate
from support.load import Load
from support.scripts import ask_to_stop, keeper_of, unique_seconds, zombies_of
from support.service import (
    ON_BOTH,
    ON_SQLITE,
    PATIENCE_SECONDS,
    Service,
    eventually,
    processes_with,
)
from support.upgrades import (
    UNTIL_TOLD,
    HeldUpgrade,
    Installation,
    ask_for_upgrade,
    descriptors,
    end_of_upgrade,
    let_end,
    report_of,
    servers,
    upgrade,
    wait_for_step,
)


@pytest.fixture
def installation() -> Iterator[Installation]:
    made = Installation()
    yield made
    made.remove()


PRINTER = f"""
import itertools, os, sys, time
def write(stream, data):
    while data:
        data = data[os.write(stream, data):]
for number in itertools.count(step=100):
    for stream in (1, 2):
        lines = range(number, number + 100)
        text = "".join(f"{{stream}} {{line:07d}} xxxxxxxxxxxxxxxx\\n" for line in lines)
        write(stream, text.encode())
    if os.path.exists(os.path.expandvars("{UNTIL_TOLD}")):
        sys.exit(37)
    time.sleep(0.02)
"""


def printed(stream: int, lines: int) -> bytes:
    return "".join(f"{stream} {line:07d} xxxxxxxxxxxxxxxx\n" for line in range(lines)).encode()


def submit_printer(service: Service) -> str:
    return str(service.submit(PRINTER, interpreter=["/usr/bin/python3"])["id"])


def assert_complete(service: Service, printer: str) -> None:
    """Assert that a printer still runs; let it end, and compare its whole output."""
    assert service.get(printer)["status"] == "running"
    let_end(service, printer)
    final = service.wait(printer)
    assert (final["status"], final["exit_code"]) == ("failed", 37)
    out, err = (service.bytes_of(printer, stream=name) for name in ("stdout", "stderr"))
    assert len(out) == len(err)
    lines = len(out) // len(printed(1, 1))
    assert lines > 1000
    assert lines % 100 == 0
    assert out == printed(1, lines)
    assert err == printed(2, lines)


TIMER_SECONDS = 8.0


def utc_seconds() -> float:
    return datetime.now(UTC).timestamp()


def assert_on_time(final: dict[str, Any], began: float, upgraded: float) -> None:
    """Assert that a timer of `TIMER_SECONDS` expired on time.

    If an upgrade restarted the timer, it would expire later by the time that had passed before.
    That time grows with the slowness of the machine, as other delays of the keeper do.

    Args:
        final: the command that the timer ended.
        began: the earliest time at which the timer was set.
        upgraded: when the last upgrade was requested.
    """
    took = datetime.fromisoformat(final["exited_at"]).timestamp() - began
    assert TIMER_SECONDS - 0.1 < took < TIMER_SECONDS + (upgraded - began) / 2, final


@ON_BOTH
def test_everything_continues_through_two_upgrades(make_service: Callable[..., Service]) -> None:
    service = make_service("--max-running", "7").start()
    keeper, old = keeper_of(service).pid, service.server_pid
    mark = unique_seconds()
    gate = Gate(service)
    daemon = service.submit(f"setsid sleep {mark} & echo up", leftover_seconds=3600)["id"]
    service.wait_for_output(daemon, b"up\n")
    eventually(lambda: service.get(daemon)["exited_at"], "the daemon's parent to end")
    reader = service.submit(f"read a; {gate.block}; read b; echo $b-$a", stdin="one\ntwo\n")["id"]
    ignorant = "trap '' TERM; echo up; while :; do sleep 0.1; done"
    stopped, overdue = (service.submit(ignorant)["id"] for _ in range(2))
    kept = service.submit(f"{gate.block}; exit 5", working_directory="private")["id"]
    printer = submit_printer(service)
    for command in (stopped, overdue):
        service.wait_for_output(command, b"up\n")
    service.wait_for_output(printer, b"1 0001000")
    ask_to_stop(service, stopped, grace_seconds=3600)
    began = utc_seconds()
    fields = {"timeout_seconds": TIMER_SECONDS, "grace_seconds": 3600}
    late = service.submit("sleep 3600", **fields)["id"]
    ask_to_stop(service, overdue, grace_seconds=TIMER_SECONDS)
    for command in (reader, kept, late):
        eventually(lambda: service.get(command)["started_at"], "it to run")  # noqa: B023
    before = descriptors(keeper)
    # These start when the timers end two others, so that the last command stays queued.
    placed = [service.submit(gate.block)["id"] for _ in range(2)]
    queued = service.submit("echo queued")["id"]

    for _ in range(2):
        upgraded = utc_seconds()
        report = upgrade(service)
        assert report.ok, report
        assert keeper_of(service).pid == keeper
    assert old not in servers(service)
    assert len(servers(service)) == 1
    assert service.get(stopped)["status"] == "stopping"
    assert service.get(queued)["status"] == "queued"
    final = service.wait(overdue)
    assert (final["status"], final["signal"]) == ("stopped", "SIGKILL")
    assert_on_time(final, began, upgraded)
    final = service.wait(late)
    assert final["status"] == "timed_out"
    assert_on_time(final, began, upgraded)
    for command in placed:
        service.wait_for(command, "running")
    eventually(lambda: descriptors(keeper) == before, "the descriptors to be as before")
    assert service.get(queued)["status"] == "queued"
    eventually(lambda: zombies_of(keeper_of(service)) == [], "no zombie")

    ask_to_stop(service, stopped, grace_seconds=0)
    final = service.wait(stopped)
    assert (final["status"], final["signal"]) == ("stopped", "SIGKILL")
    gate.open()
    assert service.wait(reader)["status"] == "succeeded"
    assert service.bytes_of(reader) == b"two-one\n"
    assert service.wait(kept)["exit_code"] == 5
    for command in (*placed, queued):
        service.wait(command)
    assert_complete(service, printer)
    assert service.get(queued)["status"] == "succeeded"
    assert len(processes_with(mark)) == 1
    ask_to_stop(service, daemon)
    assert service.wait(daemon)["leftovers_killed"] >= 1
    assert processes_with(mark) == []
    assert list((service.data_dir / "private").iterdir()) == []
    eventually(lambda: zombies_of(keeper_of(service)) == [], "no zombie")
    assert "NoNewPrivs:\t1" in Path(f"/proc/{keeper}/status").read_text()


@pytest.mark.parametrize("signals", [3, pytest.param(10, marks=pytest.mark.long)])
def test_many_upgrade_signals_under_load(service: Service, signals: int) -> None:
    keeper = keeper_of(service).pid
    inherited = open_in_a_script(service)
    before = descriptors(keeper)
    printers = [submit_printer(service) for _ in range(2)]
    small: list[str] = []
    for turn in range(signals):
        number = ask_for_upgrade(service)
        before_it = len(small)
        # Every third upgrade is waited for; other signals arrive during or before an upgrade.
        while len(small) < before_it + 20 or (turn % 3 == 2 and not is_over(service, number)):
            small.append(submit_somehow(service, f"echo {len(small)}"))
    # The last signal may have arrived during an upgrade; then another upgrade follows.
    eventually(lambda: is_over(service, number), "it")
    report = end_of_upgrade(service, report_of(service).number)
    assert report.ok, report
    assert report.number >= signals // 3
    for printer in printers:
        assert_complete(service, printer)
    for number, command in enumerate(small):
        assert service.wait(command)["exit_code"] == 0
        assert service.bytes_of(command) == f"{number}\n".encode()
    assert keeper_of(service).pid == keeper
    eventually(lambda: descriptors(keeper) == before, "the descriptors to be as before")
    assert open_in_a_script(service) == inherited
    eventually(lambda: zombies_of(keeper_of(service)) == [], "no zombie")


def is_over(service: Service, number: int) -> bool:
    report = report_of(service)
    return report.done and report.number >= number


def open_in_a_script(service: Service) -> bytes:
    """Return the numbers of the descriptors that are open in a script."""
    return service.bytes_of(service.run("cd /proc/$$/fd; echo *")["id"])


def submit_somehow(service: Service, script: str) -> str:
    """Submit a script on a new connection; return the command id."""
    response = httpx.post(
        f"{service.url}/v1/commands",
        json={"script": script},
        headers={**service.headers, "Connection": "close"},
        timeout=PATIENCE_SECONDS,
        verify=False,
    )
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def test_the_new_server_is_killed_right_after_it_takes_over(
    service: Service,
) -> None:
    printer = submit_printer(service)
    service.wait_for_output(printer, b"1 0001000")
    held = HeldUpgrade(service)
    held.take_over()
    os.kill(held.held, signal.SIGKILL)
    report = end_of_upgrade(service, held.number)
    assert report.ok, report
    assert_complete(service, printer)


def test_the_old_server_is_killed_while_it_retires(service: Service) -> None:
    printer = submit_printer(service)
    service.wait_for_output(printer, b"1 0001000")
    held = HeldUpgrade(service)
    os.kill(held.old, signal.SIGKILL)
    report = end_of_upgrade(service, held.number)
    assert report.ok, report
    assert_complete(service, printer)


def test_the_successor_is_killed_before_it_takes_over(
    make_service: Callable[..., Service], installation: Installation
) -> None:
    service = make_service(python=installation.python).start()
    installation.hold_servers()
    old = service.server_pid
    number = ask_for_upgrade(service)
    successor = eventually(lambda: set(servers(service)) - {old}, "a successor").pop()
    os.kill(successor, signal.SIGKILL)
    report = end_of_upgrade(service, number)
    assert not report.ok
    assert "ended with -9 before it was prepared" in report.message
    assert servers(service) == [old]
    assert service.run("echo still")["status"] == "succeeded"


def test_the_keeper_is_killed_during_the_upgrade(service: Service) -> None:
    mark = unique_seconds()
    command = service.submit(f"echo before; sleep {mark}")["id"]
    service.wait_for_output(command, b"before")
    held = HeldUpgrade(service)
    # The keeper takes no further step, while the old server continues.
    keeper_of(service).send_signal(signal.SIGSTOP)
    held.go_on()
    service.kill_keeper()
    service.close_client()
    service.start()
    final = service.wait(command)
    assert final["status"] == "lost"
    assert "its keeper died while it ran" in final["reason"]
    assert service.bytes_of(command) == b"before\n"
    assert processes_with(mark) == []
    assert upgrade(service).ok


@pytest.mark.parametrize("step", ["prepares", "retires", "takes over"])
def test_sigterm_wins(
    make_service: Callable[..., Service], installation: Installation, step: str
) -> None:
    service = make_service("--shutdown-grace-seconds", "3600", python=installation.python).start()
    command = service.submit("trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.05; done")
    service.wait_for_output(command["id"], b"up")
    service.close_client()
    assert service.process is not None
    if step == "prepares":
        held = None
        gate = installation.hold_servers()
        wait_for_step(service, ask_for_upgrade(service), step)
    else:
        held = HeldUpgrade(service)
        if step == "takes over":
            held.take_over()
    service.process.terminate()
    if held is not None:
        held.go_on()
    assert service.process.wait(PATIENCE_SECONDS) == 0
    report = report_of(service)
    assert (report.done, report.ok) == (True, False)
    assert report.message == "the service is shutting down"
    # Stored by the server that ran at the end, not only after the next start.
    assert [row[0] for row in service.sql("SELECT status FROM commands")] == ["stopped"]
    if step == "prepares":
        gate.touch()
    service.start()
    final = service.get(command["id"])
    assert (final["status"], final["exit_code"]) == ("stopped", 4), step
    assert service.bytes_of(command["id"], stream="stdout") == b"up\nbye\n"


def test_followers_continue_after_the_upgrade(service: Service) -> None:
    """The old server ends a follower's connection, after 3 s at most; the client reconnects."""
    gate = Gate(service)
    command = service.submit(f"seq 200; {gate.wait}; seq 201 400")["id"]
    words = [sys.executable, "-m", "scriptservice.cli", "logs", "--follow", command]
    printed_to = service.data_dir.parent / "followed"
    with printed_to.open("wb") as file:
        follower = subprocess.Popen(
            words, env=environment(service), stdin=subprocess.DEVNULL, stdout=file
        )
    try:
        eventually(lambda: b"\n200\n" in printed_to.read_bytes(), "it to follow")
        old = service.server_pid
        assert upgrade(service).ok
        assert old not in servers(service)
        gate.open()
        assert follower.wait(PATIENCE_SECONDS) == 0
    finally:
        follower.kill()
        follower.wait()
    assert printed_to.read_bytes().split() == [b"%d" % number for number in range(1, 401)]


def test_waiting_requests_are_answered(service: Service) -> None:
    gate = Gate(service)
    mark = unique_seconds()

    def submit(script: str) -> httpx.Response:
        return httpx.post(
            f"{service.url}/v1/commands?wait=60",
            json={"script": script, "labels": {"test": mark}},
            headers=service.headers,
            timeout=PATIENCE_SECONDS,
            verify=False,
        )

    def stored() -> list[Any]:
        found = service.client.get("/v1/commands", params={"label": f"test={mark}"})
        return list(found.json()["items"])

    with ThreadPoolExecutor() as pool:
        # The old server has this request, and answers it before it ends.
        waiting = pool.submit(submit, gate.wait)
        eventually(stored, "it to wait")
        held = HeldUpgrade(service)
        before = connections_to(service)
        # This connection is in the backlog, or the old server has accepted it as its last.
        late = pool.submit(submit, "echo end")
        eventually(lambda: connections_to(service) > before, "its connection")
        held.go_on()
        response = waiting.result()
        assert response.status_code == 201, response.text
        assert response.json()["status"] == "running"
        assert end_of_upgrade(service, held.number).ok
        gate.open()
        assert late.result().status_code == 201, late.result().text
    for each in (response, late.result()):
        assert service.wait(each.json()["id"])["status"] == "succeeded"


def connections_to(service: Service) -> int:
    """Return how many connections this process has to a service."""
    found = psutil.Process().net_connections("tcp")
    return sum(bool(each.raddr) and each.raddr[1] == service.port for each in found)


@ON_SQLITE
def test_the_upgrade_command_reports_the_result(make_service: Callable[..., Service]) -> None:
    service = make_service()
    words = ("upgrade", "--data-dir", str(service.data_dir))
    service.start()
    nowhere = cli(service, "upgrade", "--data-dir", str(service.data_dir / "work"))
    assert nowhere.returncode == 1
    assert b"no service was ever started there" in nowhere.stderr
    old = service.server_pid
    done = cli(service, *words)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, b"the new keeper loads ...")
    assert done.stdout.startswith(b"upgraded to release ")
    assert old not in servers(service)
    service.close_client()
    service.sql("UPDATE alembic_version SET version_num = '9999'")
    server = service.server_pid
    refused = cli(service, *words)
    assert refused.returncode == 1
    assert b"its schema 9999 is newer than this release's" in refused.stderr
    assert servers(service) == [server]
    assert "its schema 9999 is newer" in service.output()
    assert service.stop() == 0
    ended = cli(service, *words)
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert b"no service runs there" in ended.stderr


@ON_SQLITE
def test_a_service_that_ends_during_the_upgrade_is_reported(
    make_service: Callable[..., Service], installation: Installation
) -> None:
    service = make_service(python=installation.python).start()
    gate = installation.hold_servers()
    with ThreadPoolExecutor() as pool:
        running: Any = pool.submit(cli, service, "upgrade", "--data-dir", str(service.data_dir))
        wait_for_step(service, 1, "prepares")
        keeper_of(service).kill()
        result = running.result()
        gate.touch()
    assert result.returncode == 1
    assert b"the service has ended" in result.stderr


def test_no_request_is_broken(make_service: Callable[..., Service]) -> None:
    service = make_service("--log-level", "warning").start()
    load = Load(service)

    async def upgrade_under_load() -> None:
        running = asyncio.create_task(load.run(2000))
        await asyncio.to_thread(eventually, lambda: load.answered > 500, "the load")
        report = await asyncio.to_thread(upgrade, service)
        assert report.ok, report
        load.enough = True
        await running

    asyncio.run(upgrade_under_load())
    assert load.broken == []
    assert load.answered >= 2000
    assert load.reconnects >= load.connections
    for command in load.submitted:
        assert service.wait(command)["status"] == "succeeded"
