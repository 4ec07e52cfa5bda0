"""On a full disk, scripts that print wait, the service answers, and no byte is lost."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from scriptservice.store.database.sqlite import sqlite_url
from support.disks import fill, fill_until, small_disk
from support.gates import Gate
from support.scripts import keeper_of, stop
from support.service import Service, eventually, new_directory
from support.upgrades import upgrade

LINES = 400_000


@pytest.fixture
def disk() -> Iterator[Path]:
    """A small file system for one service."""
    directory = new_directory()
    with small_disk(directory / "disk") as place:
        yield place
    shutil.rmtree(directory)


@pytest.fixture
def service(disk: Path) -> Iterator[Service]:
    full = Service(disk / "data", "--min-free-bytes", str(1 << 20))
    try:
        yield full.start()
    finally:
        full.close()


def is_mostly_idle(keeper: psutil.Process) -> bool:
    """Return whether a keeper is idle for most of a second.

    Time in which it waits for a processor counts as busy: on a busy machine, a keeper that retries
    all the time would run little as well.
    """

    def busy_seconds() -> float:
        ran, waited, _ = Path(f"/proc/{keeper.pid}/schedstat").read_text().split()
        return (int(ran) + int(waited)) / 1e9

    before, began = busy_seconds(), time.monotonic()
    eventually(lambda: time.monotonic() > began + 1, "a second to pass")
    used_seconds = busy_seconds() - before
    return used_seconds < 0.5 * (time.monotonic() - began)


def degraded(service: Service) -> bool:
    response = service.client.get("/readyz")
    return "no room" in response.text


def test_a_script_waits_for_room_and_goes_on(service: Service, disk: Path) -> None:
    gate = Gate(service)
    command = service.submit(f"echo ready; {gate.block}; seq {LINES}; echo end >&2; exit 5")["id"]
    other = service.submit(f"echo ready; {gate.block}")["id"]
    for each in (command, other):
        service.wait_for_output(each, b"ready")
    ballast = fill(disk)
    gate.open()
    eventually(lambda: degraded(service), "the full disk in /readyz")
    assert service.client.get("/healthz").status_code == 200
    assert service.get(command)["status"] == "running"
    eventually(
        lambda: is_mostly_idle(keeper_of(service)), "a keeper that does not try all the time"
    )
    assert service.get(command)["status"] == "running"
    ballast.unlink()
    final = service.wait(command)
    assert (final["status"], final["exit_code"]) == ("failed", 5)
    expected = b"ready\n" + b"".join(b"%d\n" % i for i in range(1, LINES + 1))
    assert service.bytes_of(command, stream="stdout") == expected
    assert service.bytes_of(command, stream="stderr") == b"end\n"
    assert service.wait(other)["status"] == "succeeded"
    eventually(lambda: not degraded(service), "a clean /readyz")
    assert service.run("echo on")["status"] == "succeeded"


def test_scripts_end_and_are_stopped_on_a_full_disk(service: Service, disk: Path) -> None:
    gate = Gate(service)
    ends = service.submit(f"echo ready; {gate.block}; echo last words; exit 6")["id"]
    resists = service.submit("trap '' TERM; echo ready; sleep 3600")["id"]
    times_out = service.submit("sleep 3600", timeout_seconds=2)["id"]
    for each in (ends, resists):
        service.wait_for_output(each, b"ready")
    eventually(lambda: service.get(times_out)["started_at"], "it to start")
    ballast = fill(disk)
    gate.open()
    children = keeper_of(service).children
    # Their processes end although nothing can be journalled; the server and one script are left.
    eventually(lambda: len(children()) <= 2, "two of them to end")
    ballast.unlink()
    assert service.wait(ends)["exit_code"] == 6
    assert service.bytes_of(ends) == b"ready\nlast words\n"
    assert service.wait(times_out)["status"] == "timed_out"
    assert stop(service, resists, grace_seconds=0)["status"] == "stopped"


def test_a_command_whose_end_waits_for_room_is_not_lost(disk: Path) -> None:
    """The database is on another disk, so that the next server takes over at once."""
    elsewhere = new_directory()
    database = sqlite_url(str(elsewhere / "scriptservice.db"))
    service = Service(disk / "data", "--min-free-bytes", "0", database=database)
    try:
        service.start()
        # Many commands, since the journal's last page still has room for some ends.
        gate = Gate(service)
        script = f"echo ready; {gate.block}; exit 6"
        commands = [service.submit(script)["id"] for _ in range(40)]
        for command in commands:
            service.wait_for_output(command, b"ready")
        ballast = fill(disk)
        gate.open()
        eventually(lambda: len(keeper_of(service).children()) == 1, "their ends")
        killed = service.kill_server()
        service.wait_until_healthy()
        eventually(lambda: service.server_pid != killed, "another server")
        until = time.monotonic() + 3  # it takes over in a few milliseconds, but reports nothing
        while time.monotonic() < until:
            statuses = {service.get(command)["status"] for command in commands}
            assert "running" in statuses
            assert "lost" not in statuses
        ballast.unlink()
        assert {service.wait(command)["exit_code"] for command in commands} == {6}
    finally:
        service.close()
        shutil.rmtree(elsewhere)


def test_a_keeper_killed_on_a_full_disk_recovers_once_there_is_room(
    service: Service, disk: Path
) -> None:
    """The next keeper waits for room and then takes the scripts' output out of their pipes."""
    gate = Gate(service)
    command = service.submit(f"echo ready; {gate.block}; seq 9000; sleep 3600")["id"]
    service.wait_for_output(command, b"ready")
    ballast = fill(disk)
    gate.open()
    eventually(lambda: degraded(service), "the full disk in /readyz")
    service.kill_keeper()
    service.start(wait=False)
    eventually(lambda: "no_room" in service.output().rpartition("keeper")[2], "its wait")
    ballast.unlink()
    service.wait_until_healthy()
    assert service.wait(command)["status"] == "lost"
    expected = b"ready\n" + b"".join(b"%d\n" % i for i in range(1, 9001))
    assert service.bytes_of(command) == expected


def test_an_upgrade_while_the_disk_is_full(service: Service, disk: Path) -> None:
    """Output and records that wait for room are handed over and wait in the new program."""
    keeper = keeper_of(service)
    gate = Gate(service)
    printer = service.submit(f"{gate.block}; seq {LINES // 4}; exit 3")["id"]
    # So many that their ends do not fit into the rest of the journal's last page.
    ends = [service.submit(f"{gate.block}; exit 5")["id"] for _ in range(60)]
    for command in (printer, *ends):
        service.wait_for(command, "running")
    ballast = fill(disk)
    gate.open()
    eventually(lambda: "no_room" in service.output(), "the disk to be missed")
    # Only the server and the printer, which waits, are left.
    eventually(lambda: len(keeper.children()) == 2, "the others to end")
    keeper.send_signal(signal.SIGHUP)
    eventually(lambda: " upgraded " in service.output(), "the upgrade")
    service.close_client()
    assert "--handover-fd" in keeper.cmdline()
    assert service.get(printer)["status"] == "running"
    ballast.unlink()
    final = service.wait(printer)
    assert (final["status"], final["exit_code"]) == ("failed", 3)
    assert service.bytes_of(printer) == b"".join(b"%d\n" % n for n in range(1, LINES // 4 + 1))
    for command in ends:
        final = service.wait(command)
        assert (final["status"], final["exit_code"]) == ("failed", 5)
    assert upgrade(service).ok


def test_no_command_fills_the_disk_with_the_default_settings() -> None:
    """At the first threshold submits are refused; at the second one scripts that print wait."""
    directory = new_directory()
    with small_disk(directory / "disk", size=330 << 20) as disk:
        service = Service(disk / "data")
        try:
            service.start()
            finished = service.run("echo done")["id"]
            gate = Gate(service)
            # Random bytes: the database stores other output compressed.
            prints = service.submit(f"echo ready; {gate.block}; exec cat /dev/urandom")["id"]
            counts = service.submit(f"echo ready; {gate.block}; seq {LINES}")["id"]
            assert service.get(prints)["output_limit_bytes"] == 10 << 30
            for each in (prints, counts):
                service.wait_for_output(each, b"ready")
            ballast = fill_until(disk, 150 << 20)
            response = eventually(
                lambda: (
                    (answer := service.client.post("/v1/commands", json={"script": "true"}))
                    and answer.status_code == 507
                    and answer
                ),
                "a refusal",
            )
            assert "256 MiB must stay free" in response.json()["detail"]
            assert service.client.post(f"/v1/commands/{finished}/rerun").status_code == 507
            assert "256 MiB must stay free" in service.client.get("/readyz").text
            assert not degraded(service)
            gate.open()
            # What runs goes on below the first threshold, and waits at the second one.
            eventually(lambda: degraded(service), "scripts that wait")
            free = os.statvfs(disk)
            assert free.f_bavail * free.f_frsize > 16 << 20
            assert service.get(prints)["output"]["bytes"] > 20 << 20
            # The space that is left is enough to stop commands and to delete them.
            assert service.client.delete(f"/v1/commands/{finished}").status_code == 204
            ballast.unlink()
            assert service.wait(counts)["status"] == "succeeded"
            assert service.bytes_of(counts, tail="1l") == b"%d\n" % LINES
            assert stop(service, prints, grace_seconds=0)["status"] == "stopped"
            assert service.client.delete(f"/v1/commands/{prints}").status_code == 204
        finally:
            service.close()
    shutil.rmtree(directory)
