"""Backups of a running service are consistent; after a restore nothing that may have run starts."""

import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import pytest
from sqlalchemy import make_url

from scriptservice.store.database.sqlite import sqlite_url
from support.postgres import Databases, client_program
from support.service import FINAL, ON_BOTH, ON_SQLITE, PATIENCE_SECONDS, Service, eventually

MakeService = Callable[..., Service]


def cli(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scriptservice.cli", *words]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )


def back_up(service: Service, target: Path) -> None:
    """Copy the database as docs/how-to/back-up-and-restore.md says."""
    if service.database is None:
        done = cli("backup", str(target), "--data-dir", str(service.data_dir))
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{target}: ")
        return
    dump = [client_program("pg_dump"), "--format=custom", f"--file={target}", service.database]
    subprocess.run(dump, check=True, timeout=PATIENCE_SECONDS)


def put_back(service: Service, source: Path, postgres: Databases | None) -> None:
    """Restore a copy for a stopped service, as docs/how-to/back-up-and-restore.md says."""
    if service.database is None:
        for file in service.data_dir.glob("scriptservice.db*"):
            file.unlink()
        shutil.copy(source, service.data_dir / "scriptservice.db")
        return
    assert postgres is not None
    name = make_url(service.database).database
    postgres.execute(f"DROP DATABASE {name}")
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    restore = [client_program("pg_restore"), f"--dbname={service.database}", str(source)]
    subprocess.run(restore, check=True, timeout=PATIENCE_SECONDS)


def postgres_of(service: Service, request: pytest.FixtureRequest) -> Databases | None:
    return None if service.database is None else request.getfixturevalue("postgres")


def wait_until_ready(service: Service) -> None:
    """Wait for /readyz; a new service first makes sure that no other writes to its PostgreSQL."""

    def ready() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return (
                httpx.get(
                    f"{service.url}/readyz", timeout=PATIENCE_SECONDS, verify=False
                ).status_code
                == 200
            )
        return False

    eventually(ready, "it to be ready")


@pytest.mark.parametrize("start_queued", [False, True])
def test_commands_open_in_a_backup_are_lost_unless_queued_and_allowed_to_start(
    make_service: MakeService, request: pytest.FixtureRequest, start_queued: bool
) -> None:
    service = make_service("--max-running", "1").start()
    ran = service.data_dir.parent / "ran"
    ran.touch()
    ran.chmod(0o666)
    done = service.run("echo done; exit 3")["id"]
    running = service.submit("sleep 3600")["id"]
    service.wait_for(running, "running")
    waiting = [service.submit(f"echo {number} >>{ran}")["id"] for number in range(5)]
    copy = service.data_dir.parent / "copy"
    back_up(service, copy)
    # Work continues after the backup: the queued commands run, and a new one is submitted.
    service.client.post(f"/v1/commands/{running}/stop", json={"grace_seconds": 0})
    for command in waiting:
        service.wait(command)
    later = service.run("echo later")["id"]
    assert service.stop() == 0
    assert sorted(ran.read_text().split()) == ["0", "1", "2", "3", "4"]
    # As on a new machine, the keeper's journal is not there.
    for name in ("journal", "lock", "private"):
        path = service.data_dir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    put_back(service, copy, postgres_of(service, request))
    service.flags = ("--start-queued",) if start_queued else ()
    service.start(wait=False)
    wait_until_ready(service)
    kept = service.get(done)
    assert (kept["status"], kept["exit_code"]) == ("failed", 3)
    assert service.bytes_of(done) == b"done\n"
    assert service.client.get(f"/v1/commands/{later}").status_code == 404
    found = service.wait(running)
    assert found["status"] == "lost"
    assert found["reason"].startswith("restored: ")
    statuses = [service.wait(command)["status"] for command in waiting]
    again = sorted(ran.read_text().split())
    if start_queued:
        assert statuses == ["succeeded"] * 5
        assert again == sorted(["0", "1", "2", "3", "4"] * 2)
    else:
        assert statuses == ["lost"] * 5
        assert again == ["0", "1", "2", "3", "4"]
    assert service.run("echo new")["status"] == "succeeded"


@ON_BOTH
def test_a_backup_under_load_is_consistent(
    make_service: MakeService, request: pytest.FixtureRequest
) -> None:
    service = make_service().start()
    enough = service.data_dir.parent / "enough"
    prints = f"until [ -e {enough} ]; do seq $((n += 1)) $((n + 1000)); sleep 0.02; done"
    loads = [service.submit(prints)["id"] for _ in range(2)]
    service.wait_for_output(loads[0], b"\n1010\n")
    submitted: list[str] = []
    stop = threading.Event()

    def submit() -> None:
        while not stop.is_set():
            submitted.append(service.submit("true")["id"])
            stop.wait(0.02)

    submitter = threading.Thread(target=submit)
    submitter.start()
    copies = [service.data_dir.parent / f"copy{number}" for number in range(2)]
    try:
        eventually(lambda: len(submitted) > 20, "some commands")
        for copy in copies:
            before = len(submitted)
            back_up(service, copy)
            # The second submit began after the first was answered, so none waits for the backup.
            assert len(submitted) - before >= 2
    finally:
        stop.set()
        enough.touch()
        submitter.join(PATIENCE_SECONDS)
    for command in [*loads, *submitted]:
        service.wait(command)
    expected = {command: service.bytes_of(command) for command in loads}
    assert service.stop() == 0
    put_back(service, copies[-1], postgres_of(service, request))
    service.start()

    def all_final() -> bool:
        query = {"limit": 1000, "status": ["queued", "running", "stopping"]}
        return not service.client.get("/v1/commands", params=query).json()["items"]

    # The journal is still there, and what the copy lacks of these commands is stored from it.
    eventually(all_final, "all to be final")
    for command, output in expected.items():
        found = service.get(command)
        assert found["status"] in FINAL
        kept = service.bytes_of(command)
        assert found["output"]["bytes"] == len(kept)
        # If neither the copy nor the journal has a part, it is missing and the reason says so.
        assert kept == output or "incomplete" in found["reason"] or found["status"] == "lost"


@ON_SQLITE
def test_the_copy_is_a_sound_database_for_its_owner_only(make_service: MakeService) -> None:
    service = make_service().start()
    service.run("echo kept")
    directory = service.data_dir.parent / "copies"
    directory.mkdir()
    target = directory / "copy.db"
    target.write_text("what was there before")
    before = os.umask(0)
    try:
        back_up(service, target)
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert os.listdir(directory) == ["copy.db"]
    with contextlib.closing(sqlite3.connect(target)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("SELECT data FROM output").fetchall() == [(b"kept\n",)]


@ON_SQLITE
def test_a_backup_that_cannot_be_made_leaves_what_was_there(make_service: MakeService) -> None:
    service = make_service().start()
    missing = cli("backup", "/no/such/directory/copy.db", "--data-dir", str(service.data_dir))
    assert missing.returncode == 1
    assert missing.stderr.startswith("scriptservice: cannot back up ")
    nothing = cli("backup", "copy.db", "--data-dir", str(service.data_dir.parent))
    assert nothing.returncode == 1
    assert "there is no such database" in nothing.stderr
    elsewhere = cli("backup", "copy.db", "--database", "postgresql://x@y/z")
    assert elsewhere.returncode == 1
    assert "use pg_dump" in elsewhere.stderr
    assert cli("backup").returncode == 2


def test_migrate(make_service: MakeService, request: pytest.FixtureRequest) -> None:
    service = make_service()
    if service.database is None:
        url = sqlite_url(str(service.data_dir.parent / "new.db"))
        empty = url.removeprefix("sqlite:///")
    else:
        postgres = request.getfixturevalue("postgres")
        url = empty = postgres.empty()
    done = cli("migrate", "--database", url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{empty}: schema none -> ")
    again = cli("migrate", "--database", url)
    assert again.returncode == 0
    assert again.stdout.endswith(" already\n")
    served = make_service(database=url).start()
    # Also while a server uses the database.
    assert cli("migrate", "--database", url).returncode == 0
    assert served.run("echo there")["status"] == "succeeded"
    assert served.stop() == 0
    for secret in ("someone:secret@127.0.0.1:1/x", "someone@127.0.0.1:1/x?password=secret"):
        away = cli("migrate", "--database", f"postgresql://{secret}")
        assert away.returncode == 1
        shown = "cannot open database postgresql://someone@127.0.0.1:1/x: "
        assert away.stderr.startswith(f"scriptservice: {shown}")
        assert "secret" not in away.stderr
