"""The journal's disk is full, the database's, or both; the database is locked or read-only.

One service lives through all of it. Its journal and its SQLite file have small disks of their own.
"""

import contextlib
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from support.disks import fill, remount, small_disk
from support.gates import Gate
from support.oracle import Script, Trial, late, numbered, polite, quick, stubborn, ticker
from support.scripts import keeper_of
from support.service import Service, eventually, new_directory

LINES = 120_000
FULL_SECONDS = 3
LOCKED_SECONDS = 33
"""Longer than SQLite waits for a lock (30 s), and than anyone waits for an answer (10 s)."""


@dataclass
class Hurt:
    """The service, and its disks by name."""

    service: Service
    disks: dict[str, Path]


@pytest.fixture(scope="module")
def hurt() -> Iterator[Hurt]:
    directory = new_directory()
    data, database = directory / "data", directory / "database"
    with small_disk(data / "journal") as journal, small_disk(database):
        url = f"sqlite:///{database}/scriptservice.db"
        service = Service(data, "--min-free-bytes", str(1 << 20), database=url)
        try:
            yield Hurt(service.start(), {"journal": journal, "database": database})
        finally:
            service.close_client()
            service.stop()
            service.log.close()
    shutil.rmtree(directory)


def gated(gate: Gate, text: str, script: Script) -> Script:
    """Return a script that waits at a gate, and then does something else."""
    waits = f"echo line 0000001; {gate.block}; {text}"
    return Script(script.kind, waits, script.ends, script.fields, b"line 0000001\n" + script.stdout)


def pass_seconds(seconds: float) -> None:
    end = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > end, "the time to pass")


@pytest.mark.parametrize("which", ["journal", "database", "journal and database"])
def test_no_room_and_room_again(which: str, hurt: Hurt) -> None:
    service = hurt.service
    trial = Trial(service)
    trial.submit(quick())
    trial.settle()
    trial.note_descriptors()
    gate = Gate(service)
    prints = Script("printer", "", stdout=numbered(1, LINES))
    trial.submit_all(
        [
            gated(gate, f"seq -f 'line %07.0f' {LINES}", prints),
            gated(gate, "exit 6", Script("ends", "", ("failed", 6))),
            late(2),
            stubborn(),
            polite(),
        ]
    )
    eventually(trial.all_started, "all to begin")
    ballast = [fill(hurt.disks[name]) for name in which.split(" and ")]
    gate.open()
    trial.answer_seconds = 1
    trial.submit_all([quick(7), ticker(4)], retry=False)
    trial.stop_started()
    full = time.monotonic()
    if "journal" in which:
        eventually(lambda: "no room" in service.client.get("/readyz").text, "it to be told")
    if "database" in which:
        # What its log has room for from before is taken as ever.
        large = {"script": f"exit #{500_000 * 'x'}"}
        post = service.client.post
        eventually(lambda: post("/v1/commands", json=large).status_code == 507, "a refusal")
    if which == "database":
        eventually(lambda: "disk is full" in service.client.get("/readyz").text, "it to be told")
    pass_seconds(full + FULL_SECONDS - time.monotonic())
    for each in ballast:
        each.unlink()
    assert set(trial.verify()) == {"succeeded", "failed", "timed_out", "stopped"}
    assert service.client.get("/readyz").json()["degraded"] == []


def test_another_process_locks_the_database(hurt: Hurt) -> None:
    service = hurt.service
    trial = Trial(service)
    gate = Gate(service)
    lasts = gated(gate, "exit 6", Script("lasts", "", ("failed", 6)))
    trial.submit_all([lasts, late(2), stubborn(), polite()])
    eventually(trial.all_started, "all to begin")
    path = hurt.disks["database"] / "scriptservice.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        locked = time.monotonic()
        refused = service.client.post("/v1/commands", json={"script": "true"})
        assert refused.status_code == 503
        assert time.monotonic() - locked > 9
        # What is there can be read meanwhile.
        assert service.get(str(trial.sent[0].id))["status"] == "running"
        pass_seconds(locked + LOCKED_SECONDS - time.monotonic())
        other.execute("ROLLBACK")
    gate.open()
    trial.submit(quick())
    trial.verify()


def test_the_database_is_read_only(hurt: Hurt) -> None:
    """As after an error of the disk; the server is started again and again until it is not."""
    service, disk = hurt.service, hurt.disks["database"]
    trial = Trial(service)
    trial.submit_all([ticker(60, 0.1), late(2), stubborn(), polite()])
    eventually(trial.all_started, "all to begin")
    keeper, server = keeper_of(service), psutil.Process(service.server_pid)
    keeper.send_signal(signal.SIGSTOP)
    server.kill()
    eventually(lambda: remount(disk, "ro"), "the disk to be read-only")
    keeper.send_signal(signal.SIGCONT)
    eventually(lambda: "Read-only file system" in service.output(), "it to be told")
    said = "cannot open database"
    eventually(lambda: service.output().count(said) > 1, "another start")
    assert remount(disk, "rw")
    trial.submit(quick())
    trial.verify()
    assert service.client.get("/readyz").status_code == 200
