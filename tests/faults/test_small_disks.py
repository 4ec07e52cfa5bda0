"""The disk of the journal, of the database or both are full; the database is locked or read-only.

One service goes through all these tests. Its journal and its SQLite file are on small disks.
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
"""Longer than SQLite waits for a lock (30 s), and than a request waits for the store (10 s)."""


@dataclass
class ServiceOnSmallDisks:
    """A service, and its disks by name."""

    service: Service
    disks: dict[str, Path]


@pytest.fixture(scope="module")
def target() -> Iterator[ServiceOnSmallDisks]:
    directory = new_directory()
    data, database = directory / "data", directory / "database"
    with small_disk(data / "journal") as journal, small_disk(database):
        url = f"sqlite:///{database}/scriptservice.db"
        service = Service(data, "--min-free-bytes", str(1 << 20), database=url)
        try:
            yield ServiceOnSmallDisks(service.start(), {"journal": journal, "database": database})
        finally:
            service.close_client()
            service.stop()
            service.log.close()
    shutil.rmtree(directory)


def gated(gate: Gate, text: str, script: Script) -> Script:
    """Return a script that prints a line, waits at a gate, and then runs ``text``."""
    waits = f"echo line 0000001; {gate.block}; {text}"
    return Script(script.kind, waits, script.ends, script.fields, b"line 0000001\n" + script.stdout)


def empty_log(database: Path) -> None:
    """Empty SQLite's log: else the output may fit into the part that is already allocated."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        statement = "PRAGMA wal_checkpoint(TRUNCATE)"
        eventually(lambda: other.execute(statement).fetchone()[0] == 0, "an empty log")


def pass_seconds(seconds: float) -> None:
    end = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > end, "the time to pass")


@pytest.mark.parametrize("which", ["journal", "database", "journal and database"])
def test_a_full_disk_and_room_again(which: str, target: ServiceOnSmallDisks) -> None:
    service = target.service
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
    if "database" in which:
        empty_log(target.disks["database"] / "scriptservice.db")
    ballast = [fill(target.disks[name]) for name in which.split(" and ")]
    gate.open()
    trial.answer_seconds = 1
    trial.submit_all([quick(7), ticker(4)], retry=False)
    trial.stop_started()
    full = time.monotonic()
    if "journal" in which:
        eventually(lambda: "no room" in service.client.get("/readyz").text, "it to be reported")
    if "database" in which:
        # Small submits may still fit into the allocated part of SQLite's log.
        large = {"script": f"exit #{500_000 * 'x'}"}
        post = service.client.post
        eventually(lambda: post("/v1/commands", json=large).status_code == 507, "a refusal")
    if which == "database":
        eventually(
            lambda: "disk is full" in service.client.get("/readyz").text, "it to be reported"
        )
    pass_seconds(full + FULL_SECONDS - time.monotonic())
    for each in ballast:
        each.unlink()
    assert set(trial.verify()) == {"succeeded", "failed", "timed_out", "stopped"}
    assert service.ready()["degraded"] == []


def test_another_process_locks_the_database(target: ServiceOnSmallDisks) -> None:
    service = target.service
    trial = Trial(service)
    gate = Gate(service)
    lasts = gated(gate, "exit 6", Script("lasts", "", ("failed", 6)))
    trial.submit_all([lasts, late(2), stubborn(), polite()])
    eventually(trial.all_started, "all to begin")
    path = target.disks["database"] / "scriptservice.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        locked = time.monotonic()
        refused = service.client.post("/v1/commands", json={"script": "true"})
        assert refused.status_code == 503
        assert time.monotonic() - locked > 9
        # Stored commands can be read meanwhile.
        assert service.get(str(trial.sent[0].id))["status"] == "running"
        pass_seconds(locked + LOCKED_SECONDS - time.monotonic())
        other.execute("ROLLBACK")
    gate.open()
    trial.submit(quick())
    trial.verify()


def test_the_database_is_read_only(target: ServiceOnSmallDisks) -> None:
    """As after an error of the disk; the keeper restarts the server until it can write."""
    service, disk = target.service, target.disks["database"]
    trial = Trial(service)
    trial.submit_all([ticker(60, 0.1), late(2), stubborn(), polite()])
    eventually(trial.all_started, "all to begin")
    keeper, server = keeper_of(service), psutil.Process(service.server_pid)
    keeper.send_signal(signal.SIGSTOP)
    server.kill()
    eventually(lambda: remount(disk, "ro"), "the disk to be read-only")
    keeper.send_signal(signal.SIGCONT)
    eventually(lambda: "Read-only file system" in service.output(), "it to be reported")
    said = "cannot open database"
    eventually(lambda: service.output().count(said) > 1, "another start")
    assert remount(disk, "rw")
    trial.submit(quick())
    trial.verify()
    assert service.client.get("/readyz").status_code == 200
