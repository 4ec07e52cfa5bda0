"""An upgrade in place loses no byte, exit, deadline, stop, request or descriptor."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil

from support.cli import cli
from support.load import Load
from support.scripts import ask_to_stop, keeper_of, unique_seconds, zombies_of
from support.service import ON_SQLITE, PATIENCE_SECONDS, Service, eventually, processes_with
from support.upgrades import (
    UNTIL_TOLD,
    ask_for_upgrade,
    descriptors,
    end_of_upgrade,
    let_end,
    report_of,
    upgrade,
    wait_for_step,
)

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


def must_be_whole(service: Service, printer: str) -> None:
    """It still prints; let it end, and compare all that it printed."""
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


def servers(service: Service) -> list[int]:
    children = keeper_of(service).children()
    return [child.pid for child in children if "scriptservice.server" in child.cmdline()]


def seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def test_everything_goes_on_through_two_upgrades(make_service: Callable[..., Service]) -> None:
    service = make_service("--max-running", "6").start()
    keeper, old = keeper_of(service).pid, service.server_pid
    mark = unique_seconds()
    daemon = service.submit(f"setsid sleep {mark} & echo up", leftover_seconds=3600)["id"]
    service.wait_for_output(daemon, b"up\n")
    eventually(lambda: service.get(daemon)["exited_at"], "the daemon's parent to end")
    reader = service.submit("read a; sleep 12; read b; echo $b-$a", stdin="one\ntwo\n")["id"]
    ignorant = service.submit("trap '' TERM; echo up; while :; do sleep 0.1; done")["id"]
    service.wait_for_output(ignorant, b"up\n")
    late = service.submit("sleep 3600", timeout_seconds=12, grace_seconds=1)["id"]
    kept = service.submit("read line < <(sleep 14; echo x); exit 5", working_directory="private")
    printer = submit_printer(service)
    queued = service.submit("echo queued")["id"]
    service.wait_for_output(printer, b"1 0001000")
    assert service.get(queued)["status"] == "queued"
    stopped_at = time.monotonic()
    ask_to_stop(service, ignorant, grace_seconds=12)
    before = descriptors(keeper)

    for _ in range(2):
        report = upgrade(service)
        assert report.ok, report
        assert keeper_of(service).pid == keeper
    assert old not in servers(service)
    assert len(servers(service)) == 1
    assert descriptors(keeper) == before
    assert zombies_of(keeper_of(service)) == []
    assert service.get(ignorant)["status"] == "stopping"

    final = service.wait(ignorant)
    assert (final["status"], final["signal"]) == ("stopped", "SIGKILL")
    assert 11.9 < time.monotonic() - stopped_at < 15
    final = service.wait(late)
    assert final["status"] == "timed_out"
    assert 11.9 < seconds_between(final["started_at"], final["exited_at"]) < 15
    assert service.wait(reader)["status"] == "succeeded"
    assert service.bytes_of(reader) == b"two-one\n"
    assert service.wait(kept["id"])["exit_code"] == 5
    must_be_whole(service, printer)
    assert service.wait(queued)["status"] == "succeeded"
    assert len(processes_with(mark)) == 1
    ask_to_stop(service, daemon)
    assert service.wait(daemon)["leftovers_killed"] >= 1
    assert processes_with(mark) == []
    assert list((service.data_dir / "private").iterdir()) == []
    eventually(lambda: zombies_of(keeper_of(service)) == [], "no zombie")
    assert "NoNewPrivs:\t1" in Path(f"/proc/{keeper}/status").read_text()


def test_ten_signals_under_load(make_service: Callable[..., Service]) -> None:
    service = make_service().start()
    keeper = keeper_of(service).pid
    inherited = open_in_a_script(service)
    before = descriptors(keeper)
    printers = [submit_printer(service) for _ in range(3)]
    small: list[str] = []
    for _ in range(10):
        number = ask_for_upgrade(service)
        moment = time.monotonic() + 0.8
        while time.monotonic() < moment:
            small.append(submit_somehow(service, f"echo {len(small)}"))
    # The last signal may have come in the midst of one, and then another follows.
    eventually(lambda: report_of(service).done and report_of(service).number >= number, "it")
    report = end_of_upgrade(service, report_of(service).number)
    assert report.ok, report
    assert report.number >= 3
    for printer in printers:
        must_be_whole(service, printer)
    for number, command in enumerate(small):
        assert service.wait(command)["exit_code"] == 0
        assert service.bytes_of(command) == f"{number}\n".encode()
    assert keeper_of(service).pid == keeper
    eventually(lambda: descriptors(keeper) == before, "the descriptors to be as before")
    assert open_in_a_script(service) == inherited
    eventually(lambda: zombies_of(keeper_of(service)) == [], "no zombie")


def open_in_a_script(service: Service) -> bytes:
    """Return the numbers of what a script has open."""
    return service.bytes_of(service.run("cd /proc/$$/fd; echo *")["id"])


def submit_somehow(service: Service, script: str) -> str:
    """Submit a script on a connection of its own; a name makes sure that it is one command."""
    response = httpx.post(
        f"{service.url}/v1/commands",
        json={"script": script},
        headers={**service.headers, "Connection": "close"},
        timeout=PATIENCE_SECONDS,
    )
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def test_the_new_server_is_killed_right_after_its_turn_came(
    make_service: Callable[..., Service],
) -> None:
    service = make_service().start()
    printer = submit_printer(service)
    service.wait_for_output(printer, b"1 0001000")
    number = ask_for_upgrade(service)
    wait_for_step(service, number, "takes over")
    service.kill_server()
    report = end_of_upgrade(service, number)
    assert report.ok, report
    must_be_whole(service, printer)


def test_the_old_server_is_killed_while_it_retires(make_service: Callable[..., Service]) -> None:
    service = make_service().start()
    old = service.server_pid
    printer = submit_printer(service)
    service.wait_for_output(printer, b"1 0001000")
    number = ask_for_upgrade(service)
    wait_for_step(service, number, "retires")
    os.kill(old, signal.SIGKILL)
    report = end_of_upgrade(service, number)
    assert report.ok, report
    must_be_whole(service, printer)


def test_the_successor_is_killed_before_its_turn(make_service: Callable[..., Service]) -> None:
    service = make_service().start()
    old = service.server_pid
    number = ask_for_upgrade(service)
    successor = eventually(lambda: set(servers(service)) - {old}, "a successor").pop()
    os.kill(successor, signal.SIGKILL)
    report = end_of_upgrade(service, number)
    assert not report.ok
    assert "ended with -9 before it was prepared" in report.message
    assert servers(service) == [old]
    assert service.run("echo still")["status"] == "succeeded"


def test_the_keeper_is_killed_in_the_midst(make_service: Callable[..., Service]) -> None:
    service = make_service().start()
    mark = unique_seconds()
    command = service.submit(f"echo before; sleep {mark}")["id"]
    service.wait_for_output(command, b"before")
    number = ask_for_upgrade(service)
    wait_for_step(service, number, "retires")
    service.kill_keeper()
    service.start()
    final = service.wait(command)
    assert final["status"] == "lost"
    assert "its keeper died while it ran" in final["reason"]
    assert service.bytes_of(command) == b"before\n"
    assert processes_with(mark) == []
    assert upgrade(service).ok


def test_sigterm_wins(make_service: Callable[..., Service]) -> None:
    for step in ("prepares", "retires", "takes over"):
        service = make_service("--shutdown-grace-seconds", "1").start()
        command = service.submit(
            "trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.05; done"
        )
        service.wait_for_output(command["id"], b"up")
        number = ask_for_upgrade(service)
        wait_for_step(service, number, step)
        assert service.stop() == 0
        report = report_of(service)
        assert (report.done, report.ok) == (True, False)
        assert report.message == "the service is shutting down"
        # Recorded before the end, by whichever server was there, not only at the next start.
        assert [row[0] for row in service.sql("SELECT status FROM commands")] == ["stopped"]
        service.start()
        final = service.get(command["id"])
        assert (final["status"], final["exit_code"]) == ("stopped", 4), step
        assert service.bytes_of(command["id"], stream="stdout") == b"up\nbye\n"
        service.close()


def test_followers_go_on(make_service: Callable[..., Service]) -> None:
    """A follower's connection outlives the old server by 3 s and then ends; the client goes on."""
    service = make_service().start()
    command = service.submit("for i in $(seq 1 400); do echo $i; sleep 0.02; done")["id"]
    number = ask_for_upgrade(service)
    result = cli(service, "logs", "--follow", command)
    assert result.stdout.split() == [str(n).encode() for n in range(1, 401)], result.stderr
    assert end_of_upgrade(service, number).ok


def test_waiting_requests_are_answered(make_service: Callable[..., Service]) -> None:
    service = make_service().start()
    number = ask_for_upgrade(service)
    wait_for_step(service, number, "retires")
    # In the backlog, if the old server has closed already; with the old server, if not.
    began = time.monotonic()
    response = httpx.post(
        f"{service.url}/v1/commands?wait=20",
        json={"script": "sleep 6; echo end"},
        headers=service.headers,
        timeout=PATIENCE_SECONDS,
    )
    assert response.status_code == 201, response.text
    assert time.monotonic() - began < 20
    assert end_of_upgrade(service, number).ok
    assert service.wait(response.json()["id"])["status"] == "succeeded"


@ON_SQLITE
def test_the_verb_says_how_it_went(make_service: Callable[..., Service]) -> None:
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
def test_a_service_that_ends_during_the_upgrade_is_told(
    make_service: Callable[..., Service],
) -> None:
    service = make_service().start()
    with ThreadPoolExecutor() as pool:
        asked: Any = pool.submit(cli, service, "upgrade", "--data-dir", str(service.data_dir))
        wait_for_step(service, 1, "prepares")
        psutil.Process(keeper_of(service).pid).kill()
        result = asked.result()
    assert result.returncode == 1
    assert b"the service has ended" in result.stderr


def test_no_request_is_broken(make_service: Callable[..., Service]) -> None:
    service = make_service("--log-level", "warning").start()
    load = Load(service)

    async def upgrade_under_load() -> None:
        running = asyncio.create_task(load.run(5000))
        await asyncio.to_thread(eventually, lambda: load.answered > 500, "the load")
        report = await asyncio.to_thread(upgrade, service)
        assert report.ok, report
        load.enough = True
        await running

    asyncio.run(upgrade_under_load())
    assert load.broken == []
    assert load.answered >= 5000
    assert load.reconnects >= load.connections
    for command in load.submitted:
        assert service.wait(command)["status"] == "succeeded"
